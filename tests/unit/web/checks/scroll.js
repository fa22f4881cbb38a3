import { ScrollMap } from "../assets/log-scroll.js";
import { check, equal, truly } from "./check.js";

check("as long as rows fit, a pixel of the bar is a pixel of the rows", () => {
  const map = new ScrollMap(1000, 20, 400);
  equal([map.height, map.isExact, map.lastTop], [20_000, true, 980]);
  equal([map.topAt(0), map.topAt(100), map.topAt(19_600)], [0, 5, 980]);
  equal(map.scrollTopOf(5), 100);
});

check("the bar of millions of rows is as high as browsers can draw, and its ends are theirs", () => {
  const map = new ScrollMap(6_000_000, 18, 600);
  equal([map.height, map.isExact], [8_000_000, false]);
  equal(map.topAt(0), 0);
  equal(Math.round(map.topAt(map.height - 600)), Math.round(map.lastTop));
  for (const row of [0, 1, 1234, 3_000_000, map.lastTop]) {
    truly(Math.abs(map.topAt(map.scrollTopOf(row)) - row) < 1e-3, `row ${row}`);
  }
});

check("rows that are all seen are not scrolled", () => {
  const map = new ScrollMap(3, 20, 400);
  equal([map.lastTop, map.topAt(0), map.scrollTopOf(0)], [0, 0, 0]);
});
