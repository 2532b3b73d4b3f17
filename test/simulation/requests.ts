/**
 * What must hold for API requests: none is ever sent with the token of another user than the one
 * who was signed in when the page sent it, nor answered with what was meant for another one; and
 * nothing that was kept outlives the session that it was kept in.
 */
import type { Call } from './calls.js'
import type { ModelServer } from './model-server.js'
import type { Exchange } from './network.js'
import type { Scheduler } from './scheduler.js'

/**
 * Does each worker know from the record, rather than from a message that it may miss, that a
 * session has ended since it put something into a cache or a queue? To be set once that is so.
 */
export const isEndInRecord = false

/**
 * Does a request that has found no network get the cached answer of its own user, if another one
 * has signed in meanwhile? To be set once that is so.
 */
const isCacheReadForSender = false

/** ms that a write which was kept may have waited for its token, and a sign-out come meanwhile */
const replayTakes = 60_000

interface Request {
  startedAt: number
  /** Whose token it may carry. */
  allowed: Set<string>
  /** Who has signed in since. */
  later: Set<string>
  call: Call
  sentAt?: number
  /** When it was kept, to be sent later. */
  keptAt?: number
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
  /** When sessions have ended, and by whom: a user who is only to sign in again keeps writes. */
  const ends: { at: number; isByUser: boolean }[] = []
  const instant = { at: -1, subjects: new Set<string>() }

  const addToInstant = (name: string | undefined) => {
    if (instant.at !== scheduler.time()) instant.subjects.clear()
    instant.at = scheduler.time()
    if (name !== undefined) instant.subjects.add(name)
  }

  const requestOf = ({ id }: Exchange) => requests.get(id)

  return {
    /** A worker gets a request. */
    start: (id: string, call: Call) => {
      addToInstant(subject())
      const allowed = new Set(instant.subjects)
      requests.set(id, { startedAt: scheduler.time(), allowed, later: new Set(), call })
    },

    /** Somebody has been signed in or out. */
    stored: (before: string | undefined, after: string | undefined, reason?: string) => {
      addToInstant(before)
      addToInstant(after)
      if (before !== undefined && before !== after) {
        ends.push({ at: scheduler.time(), isByUser: reason !== 'ended' })
      }
      if (after === undefined) return
      for (const { startedAt, allowed, later } of requests.values()) {
        later.add(after)
        const isYoung = scheduler.time() - startedAt <= readingTime()
        // Where nobody was signed in, it may be sent for whoever signs in next.
        if (isYoung || allowed.size === 0) allowed.add(after)
      }
    },

    sent: (exchange: Exchange) => {
      const request = requestOf(exchange)
      if (!request) return
      request.sentAt = scheduler.time()
      const { keptAt = Number.POSITIVE_INFINITY } = request
      const isOver = ends.some(
        ({ at, isByUser }) => isByUser && at > keptAt && at < scheduler.time() - replayTakes,
      )
      if (isOver && isEndInRecord) fail('a write that was kept was sent after a sign-out')
    },

    /** Which time it is, counted in sessions that have ended. */
    epoch: () => ends.length,

    /** The page gets an answer: whose it is and of which time is its body. */
    answered: (id: string, { status, body }: { status: number; body: string }) => {
      const request = requests.get(id)
      if (!request) return
      if (status === 202) request.keptAt = scheduler.time()
      if (status !== 200 || !body.startsWith('for ')) return
      const [, owner = '', epoch] = body.split(' ')
      const isTheirs = request.allowed.has(owner)
      if (!isTheirs && (isCacheReadForSender || !request.later.has(owner))) {
        const [user = 'nobody'] = request.allowed
        fail(`a request of ${user} got an answer for ${owner}`)
      }
      const before = ends.filter(({ at }) => at < request.startedAt - readingTime())
      if (isEndInRecord && Number(epoch) < before.length) {
        fail(`a request got an answer for ${owner} from before a session ended`)
      }
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
