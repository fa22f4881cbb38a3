/** Manifests to start from. tests/e2e/browser submits each as a trial run, so all of them are valid. */

export const EXAMPLES = [
  {
    name: "A command",
    text: `version: "1"
kind: Task
metadata:
  name: Hello
run:
  command: [echo, Hello from the sandbox]
vm:
  profile: basic
  cpus: 0.5
  memory: 128M
  disk: 1G
lifecycle:
  timeout: 1m
`,
  },
  {
    name: "A script that leaves files",
    text: `version: "1"
kind: Task
metadata:
  name: Report
  labels:
    team: platform
run:
  script: |
    for step in 1 2 3 4; do
      echo "::progress $((step * 25)) step $step of 4"
      sleep 1
    done
    mkdir -p out
    printf '# Report\\n\\nAll 4 steps are done.\\n' > out/report.md
    printf '{"steps": 4}\\n' > out/result.json
    echo "::output steps=4"
vm:
  profile: basic
  cpus: 0.5
  memory: 128M
  disk: 1G
lifecycle:
  timeout: 5m
  artifact_patterns:
    - "out/**"
`,
  },
  {
    name: "Tests of a repository",
    text: `version: "1"
kind: Task
metadata:
  name: Tests
repository:
  url: https://git.example.com/team/project.git
  branch: main
run:
  script: |
    make test
vm:
  profile: agentic-dev
  cpus: 2
  memory: 4G
  disk: 10G
  network_mode: outbound
  allowed_hosts:
    - packages.example.com
lifecycle:
  timeout: 30m
  retry:
    max_attempts: 2
`,
  },
  {
    name: "A coding agent",
    text: `version: "1"
kind: Task
metadata:
  name: Fix the failing test
repository:
  url: https://git.example.com/team/project.git
claude:
  prompt: |
    Find out why the test suite fails, fix it, and explain what was wrong.
  max_turns: 40
vm:
  cpus: 2
  memory: 4G
  disk: 10G
lifecycle:
  timeout: 1h
`,
  },
];
