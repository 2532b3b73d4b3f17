/**
 * ms from `since` to `now`. Infinity if `since` lies ahead: the clock has been set back, so the age
 * is unknown, and what has to be young does not count as young.
 */
export const ageOf = (since: number, now: number): number =>
  now >= since ? now - since : Number.POSITIVE_INFINITY

/** ms between two times, for what a clock that was set back should not make old. */
export const timeBetween = (one: number, other: number): number => Math.abs(one - other)
