import { TokenError, type TokenErrorCode, toErrorData } from '../../src/shared/errors.js'
import type { WireEvent } from '../../src/shared/protocol.js'
import { challengeOf, stepUpOf } from '../http/challenge.js'
import { copyOf } from '../http/request-copy.js'
import type { ApiRule } from '../options/options.js'
import type { Platform } from '../platform.js'
import type { Dpop } from '../server/dpop.js'
import { refusal } from '../sign-in/auth-response.js'
import { withTimeLimit } from '../time-limit.js'
import type { AccessToken, TokenResult } from '../token/access-token.js'
import type { Note } from '../trace.js'

/** What the browser says about the request beside the request itself. */
export interface RequestContext {
  /** Client id of the page or worker that sent it; empty if unknown. */
  clientId: string
  /** Keeps the worker alive for work that goes on behind the answer. */
  keepAlive(work: Promise<unknown>): void
}

type Token = TokenResult & { kind: 'token' }

/** ms that one request waits for a token, everything together. */
const waitLimit = 30_000
/** ms in which an API that refuses even a new token causes no further renewal. */
const fruitlessFor = 30_000

/** One request to an API, for code that sends it by itself or has it sent. */
export interface ApiExchange {
  /**
   * Sends it, and once more where its token has expired too early. Rejects with an `AbortError`
   * where the page has cancelled it: such a request is not to be kept or tried again.
   *
   * @param owner Whose request it is: it fails as a network error where that is not who is signed in
   */
  send(owner?: string): Promise<Response>
  /**
   * The request as it has to be sent: with a token, or bare where nobody is signed in. Rejects
   * where somebody is, but there is no token to be had now; and with an `AbortError`, as its
   * sending does later, where the page has cancelled it.
   */
  attach(): Promise<Request>
  /** Has the API refused the token to the end, in whatever way it says so? */
  isRefused(): boolean
  /** Whose token `attach` has given it; undefined if none. */
  owner(): string | undefined
  /**
   * What the page gets for the answer to what `attach` gave: after a 401, the answer to a second
   * try with a new token.
   *
   * @param spare The request once more, its body unread
   */
  settle(response: Response, spare: Request): Promise<Response>
}

/** Sends API requests with a token, and once more when a token has expired too early. */
export const createApiRequest = (
  accessToken: Pick<AccessToken, 'peek' | 'get' | 'renew'>,
  isProtocolEndpoint: (url: URL) => boolean | undefined,
  { fetch, now, wait, pages }: Pick<Platform, 'fetch' | 'now' | 'wait' | 'pages'>,
  tellPages: (event: WireEvent) => Promise<void>,
  signalOf: (request: Request) => AbortSignal | undefined,
  note?: Note,
  dpop?: Pick<Dpop, 'fetch' | 'prove' | 'hear'>,
) => {
  let requests = 0
  /** When an API last refused a token that had just been renewed. ms since 1970 */
  const fruitless = new Map<ApiRule, number>()

  /** What an API has asked for beyond this token, and pages have been told. */
  let asked = { token: '', events: new Set<string>() }

  /** The browser's cache ignores Authorization: what lies there may be for somebody else. */
  const cacheFor = ({ cache }: Request, reload: boolean | undefined): RequestInit =>
    reload && cache !== 'no-store' ? { cache: 'reload' } : {}

  /** What makes the request one with this token. */
  const initWith = (
    request: Request,
    rule: ApiRule,
    token: Token,
    signal: AbortSignal | undefined,
  ): RequestInit => {
    const headers = new Headers(request.headers)
    headers.set('authorization', `Bearer ${token.accessToken}`)
    // `new Request` and `fetch` forget the referrer when they are given anything, unless told.
    const { referrer, referrerPolicy, redirect } = request
    const init = { headers, referrer, referrerPolicy, signal, ...cacheFor(request, token.reload) }
    return rule.redirect && redirect === 'follow' ? { ...init, redirect: rule.redirect } : init
  }

  /** Does the API ask for more than this token gives? Pages are told once. */
  const hear = (response: Response, { accessToken }: Token, { keepAlive }: RequestContext) => {
    if (response.status !== 401 && response.status !== 403) return
    const event = stepUpOf(response)
    if (asked.token !== accessToken) asked = { token: accessToken, events: new Set() }
    const key = JSON.stringify(event)
    if (!event || asked.events.has(key)) return
    asked.events.add(key)
    keepAlive(tellPages(event))
  }

  /** Whose `expired` has thrown, and pages have been told. */
  const broken = new Set<ApiRule>()

  /** Does this answer say that the token is no longer good, rather than not good enough? */
  const isTokenRefused = async (
    response: Response,
    rule: ApiRule,
    { keepAlive }: RequestContext,
  ): Promise<boolean> => {
    if (response.status === 401) {
      const error = challengeOf(response).get('error')
      return error === undefined || error === 'invalid_token'
    }
    try {
      return (await rule.expired?.(response.clone())) === true
    } catch (cause) {
      const error = new TokenError('invalid_configuration', `apis: expired has thrown: ${cause}`)
      if (!broken.has(rule)) keepAlive(tellPages({ type: 'problem', error: toErrorData(error) }))
      broken.add(rule)
      return false
    }
  }

  /** Is there still somebody who waits for the answer? */
  const isWanted = async (request: Request, { clientId }: RequestContext): Promise<boolean> =>
    !request.signal.aborted && (clientId === '' || (await pages.exists(clientId)))

  return (request: Request, rule: ApiRule, context: RequestContext): ApiExchange => {
    const id = ++requests
    const step: Note | undefined = note && ((name, more) => note(name, { request: id, ...more }))
    /** Aborted where the page has cancelled it, which its own signal does not tell in time. */
    const signal = signalOf(request)
    step?.('request', { method: request.method, url: request.url.split(/[?#]/)[0] })

    let left = waitLimit
    /** Waits for a token, but not for ever. */
    const bounded = async (work: Promise<TokenResult>): Promise<TokenResult | undefined> => {
      const startedAt = now()
      const result = await withTimeLimit(wait, left, () => work)
      left -= Math.max(now() - startedAt, 0)
      return result
    }

    const answer = (response: Response): Response => {
      step?.('answered', { status: response.status })
      return response
    }

    /** For the page a network error: its data may be old, but nobody is signed out. */
    const fail = (code: TokenErrorCode = 'timeout'): Response => {
      step?.('failed', { code })
      return Response.error()
    }

    /** No answer from the API: the page gets to know that from the browser, as ever. */
    const lost = (cause: unknown): never => {
      step?.('failed')
      throw cause
    }

    /** Its token, where there is one; or what the page gets without asking the API. */
    const prepare = async (): Promise<{ token?: Token; reload?: boolean } | Response> => {
      let result = accessToken.peek()
      if (!result) {
        const get = accessToken.get(context.keepAlive, !request.keepalive, () => step?.('waiting'))
        result = await bounded(get)
        if (signal?.aborted) lost(signal.reason)
        // Only now does a worker that has just been started know where these are.
        if (isProtocolEndpoint(new URL(request.url))) {
          return request.method === 'POST' ? answer(refusal()) : {}
        }
      }
      if (result?.kind === 'token') return { token: result }
      if (result?.kind === 'signed-out' && rule.unauthenticated === 'pass') {
        step?.('passed')
        return { reload: result.reload }
      }
      return fail(result?.kind === 'signed-out' ? 'signed_out' : result?.error.code)
    }

    const bareInit = ({ referrer, referrerPolicy }: Request, reload?: boolean) =>
      reload || signal
        ? { referrer, referrerPolicy, signal, ...cacheFor(request, reload) }
        : undefined

    const transmit = async (what: Request, token: Token): Promise<Response> => {
      const init = initWith(what, rule, token, signal)
      const response = await (dpop
        ? dpop.fetch(what, init, token.dpopKey, token.accessToken)
        : fetch(what, init)
      ).catch(lost)
      hear(response, token, context)
      return response
    }

    let refused = false

    const afterFirst = async (response: Response, token: Token, spare: Request | undefined) => {
      // A page that is being left cannot wait for a second try.
      if (!spare || request.keepalive || !(await isTokenRefused(response, rule, context))) {
        return answer(response)
      }
      step?.('unauthorized')
      refused = true
      const current = accessToken.peek()
      const isCurrent = current?.kind !== 'token' || current.accessToken === token.accessToken
      const age = now() - (fruitless.get(rule) ?? Number.NEGATIVE_INFINITY)
      if (isCurrent && age >= 0 && age < fruitlessFor) return answer(response)
      const renewal = accessToken.renew(token.accessToken)
      context.keepAlive(renewal)
      const renewed = await bounded(renewal)
      if (renewed?.kind === 'signed-out') return answer(response)
      // The session is there, only its token is not: a 401 would look like the end of it.
      if (renewed?.kind !== 'token') return fail(renewed?.error.code)
      if (renewed.owner !== token.owner) return fail('user_changed')
      if (signal?.aborted || !(await isWanted(request, context))) return answer(response)
      step?.('retried')
      const second = await transmit(spare, renewed)
      refused = await isTokenRefused(second, rule, context)
      if (refused) fruitless.set(rule, now())
      return answer(second)
    }

    const sendWith = async (what: Request, token: Token): Promise<Response> => {
      const spare = copyOf(what)
      step?.('attached')
      return await afterFirst(await transmit(what, token), token, spare)
    }

    let attached: Token | undefined

    return {
      send: async (owner) => {
        const prepared = await prepare()
        if (prepared instanceof Response) return prepared
        const { token, reload } = prepared
        if (owner !== undefined && token?.owner !== owner) return fail('user_changed')
        if (token) return await sendWith(request, token)
        return answer(await fetch(request, bareInit(request, reload)))
      },

      attach: async () => {
        const prepared = await prepare()
        if (prepared instanceof Response) throw new TypeError('There is no access token now.')
        const { token, reload } = prepared
        attached = token
        if (!token) return new Request(request, bareInit(request, reload))
        const init = initWith(request, rule, token, signal)
        step?.('attached')
        return new Request(
          request,
          dpop ? await dpop.prove(request, init, token.dpopKey, token.accessToken) : init,
        )
      },

      isRefused: () => refused,

      owner: () => attached?.owner,

      settle: async (response, spare) => {
        if (!attached) return answer(response)
        hear(response, attached, context)
        dpop?.hear(response, new URL(request.url).origin)
        // Whether the nonce was to blame or the token, a proof cannot be sent a second time.
        if (dpop && response.status === 401) return await sendWith(spare, attached)
        return await afterFirst(response, attached, spare)
      },
    }
  }
}
