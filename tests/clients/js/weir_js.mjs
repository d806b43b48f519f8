// The nats.js client against weir.
//
//   weir_js.mjs publish|consume OUT URL...
import { load } from "./load.mjs";

const [what, ...rest] = process.argv.slice(2);
await load(what, rest[0], rest.slice(1));
process.exit(0);
