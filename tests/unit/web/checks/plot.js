import { usagePlot } from "../assets/plot.js";
import { check, equal, truly, until } from "./check.js";

const GIB = 1024 ** 3;
const START = Date.UTC(2026, 2, 1, 10);

function metrics(at) {
  return {
    cpu_percent: at % 200,
    memory_used_bytes: (at % 7) * 0.1 * GIB,
    memory_total_bytes: GIB,
    disk_used_bytes: at * 1000,
    disk_total_bytes: 40 * GIB,
  };
}

async function plotted(count, test) {
  const plot = usagePlot();
  document.body.append(plot.element);
  plot.setLimits({ cpus: 2, memoryBytes: GIB, diskBytes: null });
  for (let at = 0; at < count; at++) plot.add(START + at * 5000, metrics(at));
  try {
    await until(() => plot.element.querySelector("polyline"), "something is drawn");
    await test(plot, [...plot.element.querySelectorAll("figure")]);
  } finally {
    plot.element.remove();
  }
}

check("processor, memory and disk are drawn with their limits, present and highest values", () =>
  plotted(300, async (plot, [cpu, memory, disk]) => {
    truly(cpu.textContent.includes("limit 200 %") && cpu.textContent.includes("highest 199 %"), cpu.textContent);
    truly(memory.textContent.includes("limit 1 GiB"), memory.textContent);
    truly(disk.textContent.includes("limit 40 GiB"), "a limit that was not given comes from the measurements");
    equal([cpu, memory, disk].map((one) => one.querySelectorAll(".plot-limit").length), [1, 1, 0]);
  }));

check("a day of measurements takes few elements", () =>
  plotted(17_280, async (plot, [cpu]) => {
    truly(plot.element.querySelectorAll("*").length < 100, "a curve is one element");
    const points = cpu.querySelector("polyline").getAttribute("points").split(" ");
    truly(points.length < 5 * cpu.clientWidth, "and has few points");
  }));

check("pointing at a time tells the values of all three at it", () =>
  plotted(100, async (plot, charts) => {
    const drawing = charts[0].querySelector("svg");
    drawing.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
    drawing.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
    const told = charts[0].querySelector(".plot-now").textContent;
    truly(told.startsWith("98 %"), told);
    equal(charts.map((one) => one.querySelectorAll(".plot-cursor line").length), [1, 1, 1]);
    drawing.dispatchEvent(new Event("blur"));
    equal(charts.map((one) => one.querySelectorAll(".plot-cursor line").length), [0, 0, 0]);
  }));

check("what was cleared is gone", () =>
  plotted(10, async (plot) => {
    plot.clear();
    await until(() => !plot.element.querySelector("polyline"), "nothing is drawn");
  }));
