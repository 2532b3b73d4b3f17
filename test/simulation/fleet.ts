// A fleet of clients around an outage of their authorization server, by the worker's own backoff.
import { pauseAfter } from '../../sw/session/backoff.js'

// All times here are seconds, and the server is back at 0.
const outage = 600
/** Of an access token, and how long before its end it is due for renewal: the option `leeway`. */
const lifetime = 3600
const leeway = 60
/** What is simulated before the outage, and at most after it. */
const before = 120
const after = 1800

export interface Fleet {
  clients: number
  /** A client makes API requests at random, this far apart on average. s */
  between: number
  /** All tokens are due when the outage begins, rather than evenly spread over the hour. */
  together: boolean
  /** Refreshes that the server answers in a second once it is back; the others get a 503. */
  capacity?: number
}

export interface Backoff {
  /** The longest window. s */
  longest: number
  /** Full jitter inside the window, or always all of it. */
  jitter: boolean
}

export interface Outcome {
  /** Refreshes that arrive at the server, in the second `second` from its recovery. */
  rate(second: number): number
  /** Those of the outage, per second on average. */
  whileDown: number
  /** The most in one second after the recovery. */
  peak: number
  /** Clients that had failed in the outage: sorted seconds from the recovery to a new token. */
  waits: Float64Array
  /** Clients that met a failed request after the recovery: sorted seconds until one succeeds. */
  failing: Float64Array
}

/** Numbers from 0 up to 1, the same for the same seed (mulberry32). */
const randomFrom = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A binary heap of all indices of `times`, the earliest first. */
const queueBy = (times: Float64Array) => {
  const heap = Uint32Array.from(times, (_, index) => index)
  const timeAt = (place: number) => times[heap[place] as number] as number

  const sink = (from: number) => {
    const item = heap[from] as number
    const time = times[item] as number
    let place = from
    for (;;) {
      let child = 2 * place + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && timeAt(child + 1) < timeAt(child)) child++
      if (timeAt(child) >= time) break
      heap[place] = heap[child] as number
      place = child
    }
    heap[place] = item
  }

  for (let place = heap.length >> 1; place >= 0; place--) sink(place)
  return {
    first: () => heap[0] as number,
    /** The first one has got a later time. */
    putBack: () => sink(0),
  }
}

/** The value that the given part of the sorted values does not exceed. */
export const percentile = (sorted: Float64Array, part: number): number =>
  sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? 0

/**
 * As in the worker, nothing happens by itself: a client tries at the first API request after its
 * token is due and its pause is over. While the server is down every try is answered with a 503
 * at once, without `Retry-After`.
 */
export const simulate = (
  { clients, between, together, capacity = Number.POSITIVE_INFINITY }: Fleet,
  { longest, jitter }: Backoff,
  seed = 1,
): Outcome => {
  const random = randomFrom(seed)
  const requestAfter = (time: number) => time - between * Math.log(1 - random())
  const start = -outage - before

  const due = new Float64Array(clients)
  /** When each client tries next. */
  const next = new Float64Array(clients)
  const failures = new Uint16Array(clients)
  const failedInOutage = new Uint8Array(clients)
  /** The first failed request after the recovery. */
  const failingSince = new Float64Array(clients).fill(Number.NaN)
  for (let client = 0; client < clients; client++) {
    due[client] = together ? -outage : start + random() * (lifetime - leeway)
    next[client] = requestAfter(due[client] as number)
  }

  const tries = new Uint32Array(before + outage + after)
  const answered = new Uint32Array(tries.length)
  const waits: number[] = []
  const failing: number[] = []
  const queue = queueBy(next)
  for (;;) {
    const client = queue.first()
    const time = next[client] as number
    if (time >= after) break
    const second = Math.floor(time - start)
    tries[second]!++
    const isUp = time < -outage || (time >= 0 && (answered[second] as number) < capacity)
    if (isUp) {
      answered[second]!++
      if (failedInOutage[client]) waits.push(time)
      const since = failingSince[client] as number
      if (!Number.isNaN(since)) failing.push(time - since)
      // An hour from now nobody looks any more.
      next[client] = Number.POSITIVE_INFINITY
    } else {
      if (time < 0) failedInOutage[client] = 1
      const count = ++failures[client]!
      const pause = pauseAfter(count, jitter ? random() : 1, { longest: longest * 1000 }) / 1000
      next[client] = requestAfter(time + pause)
      // Requests fail at once where the token has ended and the pause has not.
      const dead = Math.max(0, (due[client] as number) + leeway)
      if (Number.isNaN(failingSince[client])) {
        if (time >= dead) failingSince[client] = time
        else if (time + pause > dead) {
          const request = requestAfter(dead)
          if (request < time + pause) failingSince[client] = request
        }
      }
    }
    queue.putBack()
  }

  const waiting = failedInOutage.reduce((sum, failed) => sum + failed, 0)
  if (waits.length < waiting) throw new Error(`${waiting - waits.length} clients still wait.`)
  const down = tries.subarray(before, before + outage)
  return {
    rate: (second) => tries[second - start] ?? 0,
    whileDown: down.reduce((sum, count) => sum + count, 0) / outage,
    peak: tries.subarray(before + outage).reduce((most, count) => Math.max(most, count), 0),
    waits: Float64Array.from(waits).sort(),
    failing: Float64Array.from(failing).sort(),
  }
}
