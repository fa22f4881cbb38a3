"""What git helpers run: shell scripts, for `/bin/sh` of our own image (isolation-and-faults.md §5.4).

Their values come as variables of the environment, quoted wherever they are used, never as text of the script.
"""

from __future__ import annotations

NO_SUCH_REF = 22
NO_SUCH_COMMIT = 23
NO_HOST_KEY = 24
PERMANENT = (NO_SUCH_REF, NO_SUCH_COMMIT)
"""Exit codes of `CLONE` for what no second try mends, as is `NO_HOST_KEY`; 21 is everything else."""

ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/tmp/gitconfig",  # noqa: S108 - the helper's own tmpfs
    "GIT_SSH_COMMAND": "ssh -F /tmp/ssh-config",
    "GIT_SSH_VARIANT": "ssh",
    "LC_ALL": "C.UTF-8",
}

# Credentials come as files on tmpfs, through the gate (`workers.git_access`): as a part of the URL they would be in
# git's arguments (which the host's `ps` shows), in the workspace's configuration and in that of each submodule.
# postBuffer: beyond it git sends no Content-Length, which the proxy wants.
CLONE = r"""
set -eu
cat > "$GIT_CONFIG_GLOBAL" <<END
[safe]
	directory = *
[advice]
	detachedHead = false
[core]
	hooksPath = /dev/null
	fsmonitor = false
[credential]
	helper = store --file=/tmp/git-credentials
[http]
	postBuffer = 16m
	proxy = $PROXY
END
if [ -n "$SSH_HOST" ]; then
  ssh-keygen -F "$SSH_HOST" -f /tmp/known-hosts >/dev/null 2>&1 || exit 24
fi
case "$SOURCE" in file:*) git ls-remote -- "$SOURCE" HEAD >/dev/null || exit 22 ;; esac
if [ -n "$BRANCH" ]; then
  found=0; git ls-remote --exit-code -- "$SOURCE" "refs/heads/$BRANCH" "refs/tags/$BRANCH" >/dev/null || found=$?
  if [ "$found" = 2 ]; then echo "fatal: Remote branch $BRANCH not found in upstream origin" >&2; exit 22; fi
  if [ "$found" != 0 ]; then exit 21; fi
fi
set -- --no-recurse-submodules
if [ -n "$BRANCH" ]; then set -- "$@" "--branch=$BRANCH"; fi
if [ -n "$DEPTH" ]; then set -- "$@" "--depth=$DEPTH"; fi
if [ -n "$BRANCH" ] || [ -z "$COMMIT" ]; then set -- "$@" --single-branch; fi
git clone "$@" -- "$SOURCE" /workspace || exit 21
cd /workspace
if [ -n "$COMMIT" ]; then
  if [ -n "$DEPTH" ] && ! git cat-file -e "$COMMIT^{commit}" 2>/dev/null; then
    if [ "${#COMMIT}" -lt 40 ]; then
      echo "fatal: commit $COMMIT is not among the last $DEPTH: write all its digits, or leave out depth" >&2; exit 23
    fi
    git fetch "--depth=$DEPTH" origin "$COMMIT" || exit 23
  fi
  git rev-parse --quiet --verify "$COMMIT^{commit}" >/dev/null || {
    echo "fatal: commit $COMMIT is not in what was cloned" >&2; exit 23; }
  git checkout --detach "$COMMIT" || exit 23
fi
git rev-parse --quiet --verify HEAD >/dev/null || {
  echo "fatal: the repository is empty, or its HEAD names no branch: set repository.branch" >&2; exit 23; }
if [ -n "$SUBMODULES" ]; then git submodule update --init --recursive ${DEPTH:+--depth="$DEPTH"} || exit 21; fi
git remote set-url origin "$URL"
if [ -n "$SUBPATH" ]; then
  inside=$(cd -P "./$SUBPATH" 2>/dev/null && pwd) || inside=
  case "$inside" in
    /workspace | /workspace/*) ;;
    "") echo "fatal: there is no directory $SUBPATH in the repository" >&2; exit 23 ;;
    *) echo "fatal: $SUBPATH leads out of the repository" >&2; exit 23 ;;
  esac
fi
git rev-parse HEAD
"""

# The index and the new objects are made outside the workspace, which is mounted read-only: nothing that the
# task left can be changed by the diff, and what its configuration runs, runs in this sandbox only. `diff-index`
# is plumbing: colours, prefixes and the like that the task configured do not reach the patch. What git cannot
# read does not cost the rest of the patch; comments before the first `diff` line name it (git apply skips them).
DIFF = r"""
set -eu
rm -rf /git-out/objects /git-out/index /git-out/index.lock /git-out/patch
printf '[safe]\n\tdirectory = *\n' > "$GIT_CONFIG_GLOBAL"
cd /workspace
mkdir /git-out/objects
export GIT_DIR=/workspace/.git GIT_WORK_TREE=/workspace
export GIT_INDEX_FILE=/git-out/index GIT_OBJECT_DIRECTORY=/git-out/objects
export GIT_ALTERNATE_OBJECT_DIRECTORIES=/workspace/.git/objects
git='git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.untrackedCache=false -c core.splitIndex=false'
git="$git -c core.sparseCheckout=false -c gc.auto=0 -c advice.addEmbeddedRepo=false"
$git read-tree "$COMMIT"
added=0; $git add --all --ignore-errors . 2> /tmp/unread || added=$?
if [ "$added" -gt 1 ] || { [ "$added" = 1 ] && $git diff-index --cached --quiet "$COMMIT" --; }; then
  cat /tmp/unread >&2; exit 1
fi
if [ "$added" = 1 ]; then head -n 100 /tmp/unread | sed 's/^/# not in this patch: /' > /git-out/patch; fi
$git diff-index --cached --patch --binary --full-index --find-renames \
  --no-ext-diff --no-textconv --no-color "$COMMIT" -- >> /git-out/patch
rm -rf /git-out/objects /git-out/index
"""
