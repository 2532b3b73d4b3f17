/**
 * What must hold for API requests: none is ever sent with the token of another user than the one
 * who was signed in when the page sent it.
 */
import type { Call } from './calls.js'
import type { ModelServer } from './model-server.js'
import type { Exchange } from './network.js'
import type { Scheduler } from './scheduler.js'

interface Request {
  startedAt: number
  /** Whose token it may carry. */
  allowed: Set<string>
  call: Call
  sentAt?: number
}

export const watchRequests = (
  scheduler: Scheduler,
  server: ModelServer,
  /** How long a worker may take, in ms, until it has read who is signed in. */
  readingTime: () => number,
  subject: () => string | undefined,
  fail: (what: string) => void,
) => {
  const requests = new Map<string, Request>()
  /** Who was signed in at any time in this instant: a worker may have served either. */
  const instant = { at: -1, subjects: new Set<string>() }

  const addToInstant = (name: string | undefined) => {
    if (instant.at !== scheduler.time()) instant.subjects.clear()
    instant.at = scheduler.time()
    if (name !== undefined) instant.subjects.add(name)
  }

  const requestOf = ({ url }: Exchange) => requests.get(url.pathname.split('/').pop() ?? '')

  return {
    /** A worker gets a request. */
    start: (id: string, call: Call) => {
      addToInstant(subject())
      const allowed = new Set(instant.subjects)
      requests.set(id, { startedAt: scheduler.time(), allowed, call })
    },

    /** Somebody has been signed in or out. */
    stored: (before: string | undefined, after: string | undefined) => {
      addToInstant(before)
      addToInstant(after)
      if (after === undefined) return
      for (const { startedAt, allowed } of requests.values()) {
        const isYoung = scheduler.time() - startedAt <= readingTime()
        // Where nobody was signed in, it may be sent for whoever signs in next.
        if (isYoung || allowed.size === 0) allowed.add(after)
      }
    },

    sent: (exchange: Exchange) => {
      const request = requestOf(exchange)
      if (request) request.sentAt = scheduler.time()
    },

    /** The API sees it. */
    seen: (exchange: Exchange) => {
      const request = requestOf(exchange)
      const owner = server.ownerOf(exchange.accessToken)
      if (!request || owner === undefined || request.allowed.has(owner)) return
      const [user = 'nobody'] = request.allowed
      fail(`a request of ${user} was sent with a token of ${owner}`)
    },

    ended: (exchange: Exchange) => {
      const request = requestOf(exchange)
      if (request?.sentAt === undefined) return
      request.call.atApi += scheduler.time() - request.sentAt
      request.sentAt = undefined
    },
  }
}
