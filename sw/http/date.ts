/** The time at which an answer was made, in ms since 1970, by its `Date`; NaN if that is hidden. */
export const dateOf = ({ headers }: Response): number =>
  // A cache in between keeps the `Date` of what it has, and says how old that is (RFC 9111 5.1).
  // biome-ignore lint/style/noRestrictedGlobals: it reads a text here, not the clock.
  Date.parse(headers.get('date') ?? '') + Number(headers.get('age')) * 1000
