// Counts the requests that clients make, each for the check that makes it, so that checks which wait can wait together.

import { AsyncLocalStorage } from "node:async_hooks";

const checks = new AsyncLocalStorage();
let all = 0;

/** A `fetch` that counts. */
export function counted(...request) {
  // The OpenAI SDK fetches `data:,` to learn whether forms are supported; that goes nowhere.
  if (!String(request[0]).startsWith("data:")) {
    all += 1;
    const check = checks.getStore();
    if (check) check.made += 1;
  }
  return fetch(...request);
}

/** Requests made so far. */
export const made = () => all;

/** Runs a call; gives what it throws, or nothing, and the requests it made, its retries included. */
export async function failure(call) {
  const check = { made: 0 };
  const error = await checks.run(check, async () => {
    try {
      await call();
    } catch (error) {
      return error;
    }
  });
  return { error, made: check.made };
}
