import type { AccessToken, Grant, TokenResult } from './access-token.js'
import type { ApiRule } from './options.js'
import type { Platform } from './platform.js'
import type { Trace, TraceStep } from './trace.js'

/** What the browser says about the request beside the request itself. */
export interface RequestContext {
  /** Client id of the page or worker that sent it; empty if unknown. */
  clientId: string
  /** Keeps the worker alive for work that goes on behind the answer. */
  keepAlive(work: Promise<unknown>): void
}

/** ms that one request waits for a token, everything together. */
const waitLimit = 30_000
/** Requests that may wait at the same time; more would only pile up. */
const mostWaiting = 200
/** ms in which an API that refuses even a new token causes no further renewal. */
const fruitlessFor = 30_000

/** `error` of a Bearer challenge (RFC 6750 3); undefined where it is missing or hidden by CORS. */
const challengeError = (response: Response): string | undefined =>
  /\berror\s*=\s*"?([\w-]+)/i.exec(response.headers.get('www-authenticate') ?? '')?.[1]

/** Does this answer say that the token is no longer good, rather than not good enough? */
const isTokenRefused = (response: Response): boolean => {
  if (response.status !== 401) return false
  const error = challengeError(response)
  return error === undefined || error === 'invalid_token'
}

const hasBody = ({ method }: Request): boolean => method !== 'GET' && method !== 'HEAD'

/** A second copy of the request, taken before the first is sent; undefined if it has none. */
const copyOf = (request: Request): Request | undefined => {
  try {
    return hasBody(request) ? request.clone() : request
  } catch {
    return undefined
  }
}

/** Sends API requests with a token, and once more when a token has expired too early. */
export const createApiRequest = (
  accessToken: Pick<AccessToken, 'peek' | 'get' | 'renew'>,
  { fetch, now, wait, pages }: Pick<Platform, 'fetch' | 'now' | 'wait' | 'pages'>,
  trace?: Trace,
) => {
  let waiting = 0
  let requests = 0
  const fruitless = new Map<ApiRule, { accessToken: string; until: number }>()

  // `new Request` and `fetch` forget the referrer when they are given headers, unless told.
  const send = (request: Request, token: string): Promise<Response> => {
    const headers = new Headers(request.headers)
    headers.set('authorization', `Bearer ${token}`)
    const { referrer, referrerPolicy } = request
    return fetch(request, { headers, referrer, referrerPolicy })
  }

  /** Waits for a token, but not for ever, and not in a queue without end. */
  const bounded = async (work: Promise<TokenResult>): Promise<TokenResult | undefined> => {
    if (waiting >= mostWaiting) return undefined
    waiting++
    const finished = new AbortController()
    try {
      return await Promise.race([
        work,
        wait(waitLimit, finished.signal).then(
          () => undefined,
          () => undefined,
        ),
      ])
    } finally {
      waiting--
      finished.abort()
    }
  }

  const isFruitless = (rule: ApiRule, token: string): boolean => {
    const last = fruitless.get(rule)
    return last !== undefined && last.accessToken === token && now() < last.until
  }

  /** Is there still somebody who waits for the answer? */
  const isWanted = async (request: Request, { clientId }: RequestContext): Promise<boolean> =>
    !request.signal.aborted && (clientId === '' || (await pages.exists(clientId)))

  return async (request: Request, rule: ApiRule, context: RequestContext): Promise<Response> => {
    const id = ++requests
    const note = (step: TraceStep['step'], more?: Partial<TraceStep>) =>
      trace?.({ at: now(), request: id, step, ...more })
    if (trace) {
      const { origin, pathname } = new URL(request.url)
      note('request', { method: request.method, url: origin + pathname })
    }
    const answer = (response: Response): Response => {
      if (trace) note('answered', { status: response.status })
      return response
    }
    const fail = (code?: string): Response => {
      if (trace) note('failed', code ? { code } : {})
      // For the page a network error: its data may be old, but nobody is signed out.
      return Response.error()
    }

    const withToken = async ({ accessToken: token, session }: Grant): Promise<Response> => {
      const spare = copyOf(request)
      if (trace) note('attached')
      const response = await send(request, token)
      // A page that is being left cannot wait for a second try.
      if (!isTokenRefused(response) || !spare || request.keepalive) return answer(response)
      if (trace) note('unauthorized', { status: 401 })
      if (isFruitless(rule, token)) return answer(response)
      const renewal = accessToken.renew(token)
      context.keepAlive(renewal)
      const renewed = await bounded(renewal)
      if (renewed?.kind !== 'token' || renewed.session !== session) return answer(response)
      if (!(await isWanted(request, context))) return answer(response)
      if (trace) note('retried')
      const second = await send(spare, renewed.accessToken)
      if (isTokenRefused(second)) {
        fruitless.set(rule, { accessToken: renewed.accessToken, until: now() + fruitlessFor })
      }
      return answer(second)
    }

    const hot = accessToken.peek()
    if (hot) return await withToken(hot)
    if (trace) note('waiting')
    const canWait = !request.keepalive
    const result = await bounded(accessToken.get(context.keepAlive, canWait))
    switch (result?.kind) {
      case 'token':
        return await withToken(result)
      case 'signed-out':
        if (rule.unauthenticated === 'fail') return fail('signed_out')
        if (trace) note('passed')
        return answer(await fetch(request))
      case 'ended':
        // The API itself says what a request without a token gets.
        if (trace) note('passed')
        return answer(await fetch(request))
      default:
        return fail(result?.error.code ?? 'timeout')
    }
  }
}
