/** Follow one task, or all, over a WebSocket: states and output, across restarts of the server. */
const SERVER = new URLSearchParams(location.search).get("server") ?? "ws://localhost:8121";
const TOKEN = new URLSearchParams(location.hash.slice(1)).get("token"); // behind "#": it is sent to no server's log
const HEARTBEAT_MS = 10_000;

/** Call `onFrame` with frame after frame; after a cut go on behind the last one. Returns a function that ends it. */
export function follow(query, onFrame, onLost) {
  let [socket, silence, pauseMs, isOver, after] = [null, 0, 500, false, query.after ?? null];
  function connect() {
    const wanted = new URLSearchParams({ ...query, heartbeat_interval_ms: HEARTBEAT_MS, ...(after && { after }) });
    const protocols = TOKEN ? ["sandbox.v1", `sandbox.token.${TOKEN}`] : ["sandbox.v1"];
    socket = new WebSocket(`${SERVER}/api/v1/tasks/stream?${wanted}`, protocols);
    const listen = () => {
      clearTimeout(silence);
      silence = setTimeout(() => socket.close(), 3 * HEARTBEAT_MS);
    };
    listen();
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      listen();
      pauseMs = 500;
      if (frame.type !== "heartbeat") onFrame(frame);
      after = frame.id ?? after;
    };
    socket.onclose = () => {
      clearTimeout(silence);
      if (isOver) return;
      onLost(pauseMs);
      setTimeout(() => isOver || connect(), pauseMs);
      pauseMs = Math.min(10_000, pauseMs * 2);
    };
  }
  connect();
  return () => {
    isOver = true;
    socket.close();
  };
}

let stop = () => {};
const told = document.querySelector("pre");
document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  const task = event.target.elements.task.value.trim();
  const show = (text) => told.append(text); // text, never HTML: a task may print anything
  stop(told.replaceChildren());
  stop = follow({ filter: "state_change,output", ...(task && { task_id: task, after: "0" }) },
    (frame) => show(frame.type === "output" ? frame.data : `\n${frame.task_id}: ${frame.new_state ?? frame.type}\n`),
    (ms) => show(`\nno connection (is there such a task, a server, and may this page?), again in ${ms / 1000} s\n`));
};
