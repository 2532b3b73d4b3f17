import type { TokenErrorCode } from '../src/shared/errors.js'
import type { WireEvent } from '../src/shared/protocol.js'
import type { AccessToken, TokenResult } from './access-token.js'
import { refusal } from './auth-response.js'
import { challengeOf, stepUpOf } from './challenge.js'
import type { Dpop } from './dpop.js'
import type { ApiRule } from './options.js'
import type { Platform } from './platform.js'
import { copyOf } from './request-copy.js'
import { withTimeLimit } from './time-limit.js'
import type { Note } from './trace.js'

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

/** Does this answer say that the token is no longer good, rather than not good enough? */
const isTokenRefused = (response: Response): boolean => {
  if (response.status !== 401) return false
  const error = challengeOf(response).get('error')
  return error === undefined || error === 'invalid_token'
}

/** Sends API requests with a token, and once more when a token has expired too early. */
export const createApiRequest = (
  accessToken: Pick<AccessToken, 'peek' | 'get' | 'renew'>,
  isProtocolEndpoint: (url: URL) => boolean | undefined,
  { fetch, now, wait, pages }: Pick<Platform, 'fetch' | 'now' | 'wait' | 'pages'>,
  tellPages: (event: WireEvent) => Promise<void>,
  note?: Note,
  dpop?: Pick<Dpop, 'fetch'>,
) => {
  let requests = 0
  /** When an API last refused a token that had just been renewed. ms since 1970 */
  const fruitless = new Map<ApiRule, number>()

  /** What an API has asked for beyond this token, and pages have been told. */
  let asked = { token: '', events: new Set<string>() }

  /** The browser's cache ignores Authorization: what lies there may be for somebody else. */
  const cacheFor = ({ cache }: Request, reload: boolean | undefined): RequestInit =>
    reload && cache !== 'no-store' ? { cache: 'reload' } : {}

  const send = async (
    request: Request,
    rule: ApiRule,
    { accessToken, dpopKey, reload }: Token,
    context: RequestContext,
  ): Promise<Response> => {
    const headers = new Headers(request.headers)
    headers.set('authorization', `Bearer ${accessToken}`)
    // `new Request` and `fetch` forget the referrer when they are given anything, unless told.
    const { referrer, referrerPolicy, redirect } = request
    const init: RequestInit = { headers, referrer, referrerPolicy, ...cacheFor(request, reload) }
    if (rule.redirect && redirect === 'follow') init.redirect = rule.redirect
    const response = await (dpop
      ? dpop.fetch(request, init, dpopKey, accessToken)
      : fetch(request, init))
    if (response.status === 401 || response.status === 403) {
      const event = stepUpOf(response)
      if (asked.token !== accessToken) asked = { token: accessToken, events: new Set() }
      const key = JSON.stringify(event)
      if (event && !asked.events.has(key)) {
        asked.events.add(key)
        context.keepAlive(tellPages(event))
      }
    }
    return response
  }

  const sendBare = (request: Request, reload?: boolean): Promise<Response> => {
    const { referrer, referrerPolicy } = request
    return reload
      ? fetch(request, { referrer, referrerPolicy, ...cacheFor(request, reload) })
      : fetch(request)
  }

  /** Is there still somebody who waits for the answer? */
  const isWanted = async (request: Request, { clientId }: RequestContext): Promise<boolean> =>
    !request.signal.aborted && (clientId === '' || (await pages.exists(clientId)))

  return async (request: Request, rule: ApiRule, context: RequestContext): Promise<Response> => {
    const id = ++requests
    const step: Note | undefined = note && ((name, more) => note(name, { request: id, ...more }))
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

    const sendWithToken = async (token: Token): Promise<Response> => {
      const spare = copyOf(request)
      step?.('attached')
      const response = await send(request, rule, token, context).catch(lost)
      // A page that is being left cannot wait for a second try.
      if (!isTokenRefused(response) || !spare || request.keepalive) return answer(response)
      step?.('unauthorized')
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
      if (!(await isWanted(request, context))) return answer(response)
      step?.('retried')
      const second = await send(spare, rule, renewed, context).catch(lost)
      if (isTokenRefused(second)) fruitless.set(rule, now())
      return answer(second)
    }

    let result = accessToken.peek()
    if (!result) {
      const get = accessToken.get(context.keepAlive, !request.keepalive, () => step?.('waiting'))
      result = await bounded(get)
      // Only now does a worker that has just been started know where these are.
      if (isProtocolEndpoint(new URL(request.url))) {
        return answer(request.method === 'POST' ? refusal() : await fetch(request))
      }
    }
    if (result?.kind === 'token') return await sendWithToken(result)
    if (result?.kind === 'signed-out' && rule.unauthenticated === 'pass') {
      step?.('passed')
      return answer(await sendBare(request, result.reload))
    }
    return fail(result?.kind === 'signed-out' ? 'signed_out' : result?.error.code)
  }
}
