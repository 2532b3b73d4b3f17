/**
 * The network between workers and servers, with everything that can go wrong there.
 */
import type { Platform } from '../../sw/platform.js'
import type { Chance } from './chance.js'
import type { Faults, TokenFault } from './faults.js'
import type { Answer, ModelServer } from './model-server.js'
import type { Owner, Scheduler } from './scheduler.js'

/** A request on its way, and what the server that it is for will know of it. */
export interface Exchange {
  owner: Owner
  kind: 'token' | 'api' | 'other'
  url: URL
  params: URLSearchParams
  accessToken?: string
  proof?: string
  /** Of the page's request. */
  id: string
  /** There was a network when it was sent, so it may have arrived. */
  left: boolean
}

/** Who watches what goes over the network. */
export interface NetworkWatch {
  sent(exchange: Exchange): void
  /** `answer` is undefined where there was none: the worker gave up, or the connection broke. */
  ended(exchange: Exchange, answer?: Answer): void
  /** The API has seen a request. */
  seen(exchange: Exchange): void
  /** Which time it is, counted in sessions that have ended. */
  epoch(): number
  met(fault: TokenFault | 'API fault'): void
}

export const apiOrigin = 'https://api.example'
/** The header that names a request of a page. */
export const requestId = 'x-request'

/** ms. Few values, so that answers often come at the same time. */
const latencies = [0, 50, 50, 100, 200] as const

const unauthorized = (error = 'invalid_token', headers = {}): Answer => ({
  status: 401,
  headers: { ...headers, 'www-authenticate': `Bearer error="${error}", DPoP error="${error}"` },
})

/** The network of one browser. */
export const createNetwork = (
  scheduler: Scheduler,
  chance: Chance,
  server: ModelServer,
  faults: Faults,
  isOnline: () => boolean,
  watch: NetworkWatch,
) => {
  /** Requests of a worker that have not arrived yet, and how to lose them. */
  const underWay = new Map<Owner, Set<() => void>>()

  const delay = () => chance.pick(latencies)

  const serveApi = (exchange: Exchange): Answer => {
    watch.seen(exchange)
    const { accessToken } = exchange
    if (accessToken === undefined) return { status: 401 }
    const wrong = server.proofError(exchange.proof)
    if (wrong) return unauthorized(wrong.body, wrong.headers)
    const subject = server.subjectOf(accessToken)
    return subject ? { status: 200, body: `for ${subject} ${watch.epoch()}` } : unauthorized()
  }

  const serve = (exchange: Exchange): Answer =>
    exchange.kind === 'api'
      ? serveApi(exchange)
      : server.serve(exchange.url.href, exchange.params, exchange.proof)

  const overloaded = (status: number): Answer => ({
    status,
    headers: chance.is(0.5) ? { 'retry-after': String(chance.pick([1, 20, 120])) } : {},
    body: '<h1>Sorry</h1>',
  })

  /** What comes back, and after how long; without an answer the connection breaks. */
  const act = (
    exchange: Exchange,
    fault: TokenFault | 'API fault' | undefined,
  ): { answer?: Answer; after?: number } => {
    const wait = delay()
    switch (fault) {
      case 'drop before':
        return { after: wait }
      case 'drop after':
        serve(exchange)
        return { after: wait }
      case 'duplicate POST':
        serve(exchange)
        return { answer: serve(exchange), after: wait }
      case 'slow to answer':
        return { answer: serve(exchange), after: chance.between(1, 25) * 1000 }
      case 'no answer':
        serve(exchange)
        return {}
      case '5xx before':
        return { answer: overloaded(chance.pick([500, 502, 503, 504])), after: wait }
      case '5xx after':
        serve(exchange)
        return { answer: overloaded(chance.pick([500, 502, 504])), after: wait }
      case '429':
        return { answer: overloaded(429), after: wait }
      case 'HTML 200':
        return {
          answer: { status: 200, headers: { 'content-type': 'text/html' }, body: '<h1>Wi-Fi</h1>' },
          after: wait,
        }
      case 'empty 400':
        return { answer: { status: 400 }, after: wait }
      case 'truncated JSON': {
        const answer = serve(exchange)
        return { answer: { ...answer, body: answer.body?.slice(0, 40) }, after: wait }
      }
      case 'API fault':
        return chance.is(0.5)
          ? { after: wait }
          : { answer: chance.is(0.5) ? { status: 503 } : serve(exchange), after: 100 * wait }
      default:
        return { answer: serve(exchange), after: wait }
    }
  }

  const faultFor = ({ kind }: Exchange): TokenFault | 'API fault' | undefined => {
    if (kind === 'other') return faults.nextElsewhere()
    const fault = kind === 'token' ? faults.next() : faults.apiFails() ? 'API fault' : undefined
    if (fault) watch.met(fault)
    return fault
  }

  const exchangeOf = (owner: Owner, input: RequestInfo | URL, init?: RequestInit): Exchange => {
    const url = new URL(input instanceof Request ? input.url : input)
    const kind = url.origin === apiOrigin ? 'api' : url.pathname === '/token' ? 'token' : 'other'
    const { headers = input instanceof Request ? input.headers : undefined, body } = init ?? {}
    const {
      authorization,
      dpop: proof,
      [requestId]: id = '',
    } = headers instanceof Headers ? Object.fromEntries<string | undefined>(headers) : {}
    return {
      ...{ owner, kind, url, id, left: isOnline() },
      params: new URLSearchParams(String(body ?? '')),
      accessToken: authorization?.replace(/^\w+ /, ''),
      proof,
    }
  }

  return {
    /** The network as one worker has it. */
    fetchFor:
      (owner: Owner): Platform['fetch'] =>
      (input, init) =>
        new Promise((resolve, reject) => {
          const { signal } = init ?? {}
          signal?.throwIfAborted()
          const exchange = exchangeOf(owner, input, init)
          const name = `${exchange.kind} ${exchange.url.pathname} ${exchange.id}`.trim()
          let isOver = false
          const settle = (answer: Answer | undefined, how: () => void) => {
            if (isOver) return
            isOver = true
            signal?.removeEventListener('abort', onAbort)
            watch.ended(exchange, answer)
            how()
          }
          const onAbort = () => settle(undefined, () => reject(signal?.reason))
          signal?.addEventListener('abort', onAbort)
          const fail = () => settle(undefined, () => reject(new TypeError('Failed to fetch')))
          const arrive = (fault: TokenFault | 'API fault' | undefined) => {
            leaving.delete(lose)
            if (!isOnline()) return void scheduler.add(`lost: ${name}`, fail, { owner })
            const { answer, after } = act(exchange, fault)
            if (after === undefined) return
            scheduler.add(
              `${answer ? answer.status : 'broken'}: ${name}`,
              () => {
                if (!answer || !isOnline()) return fail()
                const { status, headers, body = null } = answer
                settle(answer, () => resolve(new Response(body, { status, headers })))
              },
              { in: after, owner },
            )
          }
          const leaving = underWay.get(owner) ?? new Set()
          underWay.set(owner, leaving)
          watch.sent(exchange)
          const fault = faultFor(exchange)
          if (!exchange.left) return void scheduler.add(`offline: ${name}`, fail, { owner })
          const lose = scheduler.add(`arrives: ${name}`, () => arrive(fault), {
            in: fault === 'slow to arrive' ? chance.between(5, 25) * 1000 : delay(),
          })
          leaving.add(lose)
        }),

    /** A dead worker's requests go on at the server, unless they had not really left. */
    kill: (owner: Owner) => {
      for (const lose of underWay.get(owner) ?? []) if (chance.is(0.4)) lose()
      underWay.delete(owner)
    },
  }
}

export type Network = ReturnType<typeof createNetwork>
