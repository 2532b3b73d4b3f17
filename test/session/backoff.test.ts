import { describe, expect, test } from 'vitest'
import { longestPause, longestWindow, pauseAfter } from '../../sw/session/backoff.js'

describe('the pause after failed renewals (RF-06)', () => {
  test('lies in a window that doubles with each failure, up to a minute', () => {
    const windows = [1, 2, 3, 4, 5, 6, 7, 50, 5000].map((failures) => pauseAfter(failures, 1))
    expect(windows).toEqual([2, 4, 8, 16, 32, 60, 60, 60, 60].map((s) => s * 1000))
  })

  test('has another longest window only where one is asked for', () => {
    expect(pauseAfter(50, 1)).toBe(longestWindow)
    expect(pauseAfter(50, 1, { longest: 30_000 })).toBe(30_000)
    expect(pauseAfter(2, 1, { longest: 30_000 })).toBe(4_000)
  })

  test('is anywhere in that window, by chance (full jitter)', () => {
    expect([0, 0.25, 0.5].map((chance) => pauseAfter(3, chance))).toEqual([0, 2000, 4000])
  })

  test('comes on top of what the server asks for, which is held to five minutes', () => {
    expect(pauseAfter(1, 0, { retryAfter: 7_000 })).toBe(7_000)
    expect(pauseAfter(1, 0.5, { retryAfter: 7_000 })).toBe(8_000)
    expect(pauseAfter(1, 0, { retryAfter: 86_400_000 })).toBe(300_000)
    expect(pauseAfter(99, 1, { retryAfter: Number.POSITIVE_INFINITY })).toBe(longestPause)
  })
})
