import { TokenError, toErrorData } from '../../src/shared/errors.js'
import type { WireEvent } from '../../src/shared/protocol.js'
import type { Arrival } from '../http/arrival.js'
import { isForNewToken, stepUpOf } from '../http/challenge.js'
import type { ApiRule } from './intercept.js'

/** Wishes of all APIs that pages hear of while one token lasts: invented ones have no end. */
const mostWishes = 10

/** What an API says of a token in its answer. */
export interface TokenRefusal {
  /** Does this answer say that the token is no longer good, rather than not good enough? */
  isRefused(response: Response, rule: ApiRule, keepAlive: Arrival['keepAlive']): Promise<boolean>
  /** Publishes that the API asks for more than this token gives: once for each wish, and for a few. */
  noteStepUp(response: Response, accessToken: string, keepAlive: Arrival['keepAlive']): void
}

const isEventStream = ({ headers }: Response): boolean =>
  /^text\/event-stream\b/i.test(headers.get('content-type') ?? '')

/** Creates the reader of an API's answers. */
export function createTokenRefusal({
  publish,
}: {
  publish: (event: WireEvent) => Promise<void>
}): TokenRefusal {
  /** What APIs have asked for beyond this token, and pages have got as events. */
  let asked = { token: '', events: new Set<string>() }
  /** Rules whose `expired` has thrown, and pages have got that as a problem. */
  const broken = new Set<ApiRule>()

  return {
    noteStepUp: (response, accessToken, keepAlive) => {
      if (response.status !== 401 && response.status !== 403) return
      const event = stepUpOf(response)
      if (asked.token !== accessToken) asked = { token: accessToken, events: new Set() }
      const key = JSON.stringify(event)
      if (!event || asked.events.has(key) || asked.events.size === mostWishes) return
      asked.events.add(key)
      keepAlive(publish(event))
    },

    isRefused: async (response, rule, keepAlive) => {
      if (response.status === 401) return isForNewToken(response)
      // A copy of a stream would grow without end, and `expired` could not wait for that.
      if (!rule.expired || isEventStream(response)) return false
      const copy = response.clone()
      try {
        return (await rule.expired(copy)) === true
      } catch (cause) {
        const error = new TokenError('invalid_configuration', `apis: expired has thrown: ${cause}`)
        if (!broken.has(rule)) keepAlive(publish({ type: 'problem', error: toErrorData(error) }))
        broken.add(rule)
        return false
      } finally {
        // What it has not read would be kept in memory for it. A reader that it has left is its own.
        copy.body?.cancel().catch(() => {})
      }
    },
  }
}
