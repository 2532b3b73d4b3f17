/**
 * Chance that a seed decides: the same seed and name give the same numbers on every machine. Each
 * part of the simulation draws from a stream of its own, so that a change of one part leaves what
 * the others draw as it was.
 */
export const createChance = (seed: number, name: string) => {
  let state = seed | 0
  for (const character of name) {
    state = Math.imul(state ^ character.charCodeAt(0), 0x9e3779b1)
    state ^= state >>> 15
  }

  /** From 0 up to 1 (mulberry32). */
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  /** A whole number from 0 up to `end`, without it. */
  const below = (end: number): number => Math.floor(next() * end)

  return {
    next,
    below,
    /** A whole number from `first` to `last`. */
    between: (first: number, last: number): number => first + below(last - first + 1),
    /** True in `share` of all cases. */
    is: (share: number): boolean => next() < share,
    pick: <T>(values: readonly T[]): T => values[below(values.length)] as T,
    /** One of the names, the more often the larger its number. */
    weighted: <Name extends string>(weights: Record<Name, number>): Name => {
      const entries = Object.entries(weights) as [Name, number][]
      let left = next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
      for (const [name, weight] of entries) {
        left -= weight
        if (left < 0) return name
      }
      return entries[0]![0]
    },
  }
}

export type Chance = ReturnType<typeof createChance>
