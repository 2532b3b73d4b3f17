/** ms */
const firstWindow = 1_000
/** ms */
export const longestWindow = 60_000
/** A server may ask for a longer pause, up to this: a user has less patience than some servers. ms */
const longestRetryAfter = 300_000

/** No pause that this file gives is longer. ms */
export const longestPause = longestRetryAfter + longestWindow

/**
 * How long to pause after the `failures`-th failure in a row, in ms: a window that doubles each
 * time, and full jitter inside it, so that clients which failed together do not come back
 * together. How the longest window was chosen: docs/reliability.md, "After an outage".
 *
 * @param chance From 0 up to 1
 * @param limits `retryAfter`: what the server asked for, ms; `longest`: the longest window, ms, for
 *   the simulation that chose it
 */
export const pauseAfter = (
  failures: number,
  chance: number,
  { retryAfter = 0, longest = longestWindow }: { retryAfter?: number; longest?: number } = {},
): number =>
  // The jitter comes on top, because the server may ask everybody for the same pause.
  Math.min(retryAfter, longestRetryAfter) + chance * Math.min(longest, firstWindow * 2 ** failures)
