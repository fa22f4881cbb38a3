import { axisEnd, roundUp, Series } from "../assets/plot-data.js";
import { check, equal, truly } from "./check.js";

function series(points) {
  const made = new Series();
  for (const [time, value] of points) made.add(time, value);
  return made;
}

const day = Array.from({ length: 17_280 }, (_, at) => [at * 5000, at === 9000 ? 400 : at % 100]);

check("points come into the order of time, and one of the same time replaces the other", () => {
  const made = series([[10, 1], [30, 3], [20, 2], [30, 4]]);
  equal([made.times, made.values, made.last, made.highest], [[10, 20, 30], [1, 2, 4], 4, 4]);
});

check("a day of measurements is drawn in a few points a pixel, and no peak is lost", () => {
  const lines = series(day).lines(0, 17_280 * 5000, 500);
  equal(lines.length, 1);
  truly(lines[0].length <= 4 * 501, `${lines[0].length} points are few`);
  truly(lines[0].some(([, value]) => value === 400), "the peak is there");
  equal([lines[0][0], lines[0].at(-1)], [day[0], day.at(-1)]);
});

check("a line ends where nothing was measured", () => {
  const made = series([[0, 1], [5000, 1], [60_000, 2], [65_000, null], [70_000, 3]]);
  equal(made.lines(0, 70_000, 100), [[[0, 1], [5000, 1]], [[60_000, 2]], [[70_000, 3]]]);
});

check("the nearest point is found", () => {
  const made = series([[0, 1], [10, 1], [20, 1]]);
  equal([-5, 4, 6, 14, 100].map((time) => made.nearest(time)), [0, 0, 1, 1, 2]);
  equal(new Series().nearest(0), -1);
});

check("an axis ends at a round number, or just above the limit when it is near", () => {
  equal([roundUp(7, false), roundUp(180, false), roundUp(3 * 1024 ** 3, true)], [10, 200, 5 * 1024 ** 3]);
  equal(axisEnd(300, 400, false), 420);
  equal(axisEnd(3, 400, false), 5);
  equal(axisEnd(null, null, false), 1);
});
