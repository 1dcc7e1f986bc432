/** How long to pause between tries. */

const FIRST_MS = 50;
const LONGEST_MS = 1000;

/**
 * Full jitter: anything from nothing to a bound that doubles with each failure
 * (from 0), so that clients that failed together do not come back together.
 */
export function fullJitter(failures: number): number {
  return Math.random() * Math.min(LONGEST_MS, FIRST_MS * 2 ** failures);
}
