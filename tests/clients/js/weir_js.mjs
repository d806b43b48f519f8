// The nats.js client against weir: scenarios and load.
//
//   weir_js.mjs scenarios URL...
//   weir_js.mjs publish|consume OUT URL...
import { load } from "./load.mjs";
import { scenarios } from "./scenarios.mjs";

const [what, ...rest] = process.argv.slice(2);
if (what === "scenarios") {
  await scenarios(rest);
} else {
  await load(what, rest[0], rest.slice(1));
}
process.exit(0);
