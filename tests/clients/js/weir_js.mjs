// The nats.js client against weir: scenarios and load.
//
//   weir_js.mjs scenarios NAMES URL...
//   weir_js.mjs publish|consume OUT URL...
import { load } from "./load.mjs";
import { scenarios } from "./scenarios.mjs";

const [what, first, ...urls] = process.argv.slice(2);
if (what === "scenarios") {
  // NAMES joined by commas, or empty for all.
  await scenarios(first.split(",").filter((name) => name !== ""), urls);
} else {
  await load(what, first, urls);
}
process.exit(0);
