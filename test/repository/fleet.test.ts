import { describe, expect, test } from 'vitest'
import { type Fleet, type Outcome, percentile, simulate } from '../simulation/fleet.js'

const few: Fleet = { clients: 1000, between: 30, together: false }
const together: Fleet = { clients: 1000, between: 1, together: true }
const jitter = { longest: 60, jitter: true }
const noJitter = { longest: 60, jitter: false }

/** The requests of each second from `from` to before `to`; the server is back at 0. */
const rates = ({ rate }: Outcome, from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => rate(from + index))
const sum = (counts: number[]) => counts.reduce((total, count) => total + count, 0)

describe('a fleet of clients around an outage', () => {
  test('does the same again with the same seed, and something else with another', () => {
    const seen = [1, 1, 2].map((seed) => rates(simulate(few, jitter, seed), -720, 1800))
    expect(seen[1]).toEqual(seen[0])
    expect(seen[2]).not.toEqual(seen[0])
  })

  test('renews once per client and hour before the outage', () => {
    const outcome = simulate({ ...few, clients: 100_000 }, jitter)
    const perSecond = sum(rates(outcome, -630, -600)) / 30
    expect(perSecond).toBeGreaterThan(24)
    expect(perSecond).toBeLessThan(30)
  })

  test('comes back in waves without jitter, and spread out with it', () => {
    expect(simulate(together, noJitter).peak).toBeGreaterThan(2 * simulate(together, jitter).peak)
  })

  test('asks a dead server less often with a longer window, and waits longer', () => {
    const outcomes = [30, 60, 300].map((longest) => simulate(together, { longest, jitter: true }))
    const [load, waits] = [
      outcomes.map(({ whileDown }) => whileDown),
      outcomes.map((outcome) => percentile(outcome.waits, 0.95)),
    ]
    expect(load).toEqual(load.toSorted((a, b) => b - a))
    expect(waits).toEqual(waits.toSorted((a, b) => a - b))
  })

  test('gets a token each, also from a server that answers few at a time', () => {
    const { waits } = simulate({ ...together, capacity: 5 }, jitter)
    expect(waits).toHaveLength(1000)
    expect(percentile(waits, 1)).toBeGreaterThan(199)
  })
})

test('a percentile is the least value that this part of the values does not exceed', () => {
  const values = Float64Array.from([1, 2, 3, 4])
  expect([0.25, 0.5, 0.51, 1].map((part) => percentile(values, part))).toEqual([1, 2, 3, 4])
})
