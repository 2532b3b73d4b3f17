import type { TokenErrorCode } from '../../src/shared/errors.js'
import type { WireEvent } from '../../src/shared/protocol.js'
import type { Arrival } from '../http/arrival.js'
import { authorizedInit, bareInit } from '../http/authorized-request.js'
import { copyOf } from '../http/request-copy.js'
import type { ApiCall } from '../offline/api-part.js'
import type { Platform } from '../platform.js'
import type { Dpop } from '../server/dpop.js'
import { withTimeLimit } from '../time-limit.js'
import type { AccessToken } from '../token/access-token.js'
import type { Renewal } from '../token/renewal.js'
import type { Token, TokenResult } from '../token/token-result.js'
import type { Note } from '../trace.js'
import { ageOf } from '../values/age.js'
import type { ApiRule } from './intercept.js'
import type { ProtocolEndpoints } from './protocol-endpoints.js'
import { createTokenRefusal, type TokenRefusal } from './token-refusal.js'
import { hintFailure } from './withheld.js'

declare const DEVELOPMENT: boolean

/** Begins a request to an API; nothing is sent yet. */
export type ApiRequest = (arrival: Arrival, rule: ApiRule) => ApiCall

/** ms that one request waits for a token, everything together. */
const waitLimit = 30_000
/** ms in which an API that refuses even a new token causes no further renewal. */
const fruitlessFor = 30_000

interface Parts {
  accessToken: Pick<AccessToken, 'peek' | 'get'>
  renewal: Pick<Renewal, 'renew'>
  endpoints: Pick<ProtocolEndpoints, 'includes' | 'answer'>
  platform: Pick<Platform, 'fetch' | 'now' | 'wait' | 'pages'>
  dpop?: Pick<Dpop, 'sendToApi' | 'prove' | 'noteNonce'>
}

/** What all requests of a worker share. */
interface Shared extends Parts {
  refusals: TokenRefusal
  /** When an API last refused a token that had just been renewed. ms since 1970 */
  fruitless: Map<ApiRule, number>
}

/** Creates what sends API requests with a token, and once more if a token has expired too early. */
export function createApiRequest({
  publish,
  note,
  ...parts
}: Parts & { publish: (event: WireEvent) => Promise<void>; note?: Note }): ApiRequest {
  const shared = { ...parts, refusals: createTokenRefusal({ publish }), fruitless: new Map() }
  let requests = 0
  return (arrival, rule) => {
    const { request, url } = arrival
    const id = ++requests
    const step: Note | undefined = note && ((name, more) => note(name, { request: id, ...more }))
    step?.('request', { method: request.method, url: url.origin + url.pathname })
    return createApiCall({ arrival, rule, shared, step })
  }
}

/** One request on its way. */
interface Call {
  arrival: Arrival
  rule: ApiRule
  shared: Shared
  step?: Note
}

const createWait = ({ shared: { platform } }: Call): Wait => {
  let left = waitLimit
  return async (work) => {
    const startedAt = platform.now()
    const result = await withTimeLimit(platform.wait, left, () => work)
    left -= Math.max(platform.now() - startedAt, 0)
    return result
  }
}

/** Does a page or worker still wait for the answer? */
const isWanted = async ({ arrival, shared: { platform } }: Call): Promise<boolean> => {
  const { request, clientId, cancelled } = arrival
  if (request.signal.aborted || cancelled?.aborted) return false
  return clientId === '' || (await platform.pages.exists(clientId))
}

/** What a page gets in the end, traced. */
interface Ends {
  answer(response: Response): Response
  /** A network error for the page: its data may be old, but the session goes on. */
  fail(code?: TokenErrorCode): Response
  /** No answer from the API: the browser tells the page, as without a worker. */
  lose(cause: unknown): never
}

/** Waits for a token, up to the limit for all waits of one request together. */
type Wait = (work: Promise<TokenResult>) => Promise<TokenResult | undefined>

const createEnds = ({ arrival: { request }, rule, step }: Call): Ends => ({
  answer: (response) => {
    step?.('answered', { status: response.status })
    return response
  },
  fail: (code = 'timeout') => {
    step?.('failed', { code })
    if (DEVELOPMENT && code !== 'signed_out') hintFailure(request, rule, code)
    return Response.error()
  },
  lose: (cause) => {
    step?.('failed')
    throw cause
  },
})

/** Gets the token, or what the page gets without asking the API. */
const prepare = async (
  { arrival, rule, shared: { accessToken, endpoints }, step }: Call,
  waitFor: Wait,
  { answer, fail, lose }: Ends,
): Promise<{ token?: Token; reload?: boolean } | Response> => {
  const { request, url, keepAlive, cancelled } = arrival
  let result = accessToken.peek()
  if (!result) {
    const wish = { keepAlive, canWait: !request.keepalive, onWait: () => step?.('waiting') }
    result = await waitFor(accessToken.get(wish))
    if (cancelled?.aborted) lose(cancelled.reason)
    // Only now does a worker that has just been started know the endpoints.
    if (endpoints.includes(url)) {
      return request.method === 'POST' ? answer(await endpoints.answer(arrival)) : {}
    }
  }
  if (result?.kind === 'token') return { token: result }
  if (result?.kind === 'signed-out' && rule.unauthenticated === 'pass') {
    step?.('passed')
    return { reload: result.reload }
  }
  return fail(result?.kind === 'signed-out' ? 'signed_out' : result?.error.code)
}

function createApiCall(call: Call): ApiCall {
  const { arrival, rule, shared, step } = call
  const { request, cancelled, keepAlive } = arrival
  const { accessToken, renewal, platform, dpop, refusals, fruitless } = shared
  const waitFor = createWait(call)
  let isRefused = false

  const ends = createEnds(call)
  const { answer, fail, lose } = ends

  const initOf = (what: Request, { accessToken, reload }: Token): RequestInit =>
    authorizedInit(what, {
      accessToken,
      reload,
      signal: cancelled,
      redirect: rule.redirect === 'error' ? 'error' : undefined,
    })

  const noteStepUp = (response: Response, { accessToken }: Token) =>
    refusals.noteStepUp(response, accessToken, keepAlive)

  const transmit = async (what: Request, token: Token): Promise<Response> => {
    const { dpopKey: key, accessToken } = token
    const init = initOf(what, token)
    const sent = dpop
      ? dpop.sendToApi({ request: what, init, key, accessToken })
      : platform.fetch(what, init)
    const response = await sent.catch(lose)
    noteStepUp(response, token)
    return response
  }

  const afterFirst = async (response: Response, token: Token, spare: Request | undefined) => {
    // A page that is being left cannot wait for a second try.
    if (!spare || request.keepalive) return answer(response)
    if (!(await refusals.isRefused(response, rule, keepAlive))) return answer(response)
    step?.('unauthorized')
    isRefused = true
    const current = accessToken.peek()
    const isCurrent = current?.kind !== 'token' || current.accessToken === token.accessToken
    const refusedAt = fruitless.get(rule) ?? Number.NEGATIVE_INFINITY
    if (isCurrent && ageOf(refusedAt, platform.now()) < fruitlessFor) return answer(response)
    const renewing = renewal.renew({ spoiled: token.accessToken, refused: true })
    keepAlive(renewing)
    const renewed = await waitFor(renewing)
    if (renewed?.kind === 'signed-out') return answer(response)
    // The session is there, only its token is not: a 401 would look like its end.
    if (renewed?.kind !== 'token') return fail(renewed?.error.code)
    if (renewed.owner !== token.owner) return fail('user_changed')
    if (!(await isWanted(call))) return answer(response)
    step?.('retried')
    const second = await transmit(spare, renewed)
    isRefused = await refusals.isRefused(second, rule, keepAlive)
    if (isRefused) fruitless.set(rule, platform.now())
    return answer(second)
  }

  const sendWith = async (what: Request, token: Token): Promise<Response> => {
    // A copy of a body costs more than all the rest of what the worker does.
    const spare = request.keepalive ? undefined : copyOf(what)
    step?.('attached')
    return await afterFirst(await transmit(what, token), token, spare)
  }

  return {
    ...{ sendWith, afterFirst, answer, cancelled },
    prepare: () => prepare(call, waitFor, ends),
    isProven: dpop !== undefined,

    // Only for requests that other code sends: `sendToApi` takes the nonce of its own answers.
    noteAnswer: (response, token: Token) => {
      noteStepUp(response, token)
      dpop?.noteNonce(response, arrival.url.origin)
    },

    authorized: async (what, token: Token) => {
      step?.('attached')
      const { dpopKey: key, accessToken } = token
      const init = initOf(what, token)
      return dpop ? await dpop.prove({ request: what, init, key, accessToken }) : init
    },

    send: async (owner) => {
      const prepared = await prepare(call, waitFor, ends)
      if (prepared instanceof Response) return { response: prepared, isRefused }
      const { token, reload } = prepared
      if (owner !== undefined && token?.owner !== owner) {
        return { response: fail('user_changed'), isRefused }
      }
      const response = token
        ? await sendWith(request, token)
        : answer(await platform.fetch(request, bareInit(request, { reload, signal: cancelled })))
      return { response, isRefused }
    },
  }
}
