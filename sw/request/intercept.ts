import type { AuthPage } from '../../src/shared/protocol.js'
import { segmentsOf, segmentsRead } from '../http/server-path.js'
import type { ApiPart } from '../offline/api-part.js'
import type { ProtocolEndpoints } from './protocol-endpoints.js'

/** One API as requests are compared with it. */
export interface ApiRule {
  origin: string
  /** Path segments that a request's path must start with. */
  segments: readonly string[]
  /** Its requests get no token: a wider entry leaves them out. */
  isPublic?: true
  /** What a request gets while nobody is signed in: sent without a token, or a network error. */
  unauthenticated: 'pass' | 'fail'
  /** Elements whose requests are taken too; the others are for no element. */
  destinations?: readonly string[]
  /** Absent: all. */
  methods?: readonly string[]
  /** `follow`: as the page wants it. */
  redirect?: 'follow' | 'error'
  /** Says by another answer than a 401 that the token has expired. */
  expired?: (response: Response) => boolean | Promise<boolean>
  /** Each is asked in turn whether it answers a request. */
  parts?: readonly ApiPart[]
}

/** What the decision needs of the configuration. */
export interface InterceptConfig {
  issuer: string
  apis: readonly ApiRule[]
  /** Absolute URLs of the auth pages. */
  authUrls: Readonly<Record<AuthPage, string>>
}

/**
 * What a request is to us: a visit of an auth page, anything else there, a page's call of an
 * endpoint that is the worker's alone (or may be one: that has to be looked up), or an API request.
 */
export type Interception =
  | { kind: 'auth-navigation'; page: AuthPage }
  | { kind: 'auth-subresource'; page: AuthPage }
  | { kind: 'endpoint' }
  | { kind: 'api'; rule: ApiRule }

/** Says what a request is to us; undefined if it is not ours. */
export type Intercept = (request: Request, url: URL) => Interception | undefined

/** Why a request goes without a token. */
export type Reason =
  | 'authorization'
  | 'cache'
  | 'destination'
  | 'endpoint'
  | 'method'
  | 'mode'
  | 'path'
  | 'unlisted'

/** Takes note of a request that goes without a token. Synchronous, and changes nothing. */
export type Withheld = (request: Request, reason: Reason, rule?: ApiRule) => void

const startsWithSegments = (path: readonly string[], rule: readonly string[]): boolean =>
  rule.every((segment, index) => path[index] === segment)

/** The API that a request belongs to, and whether every server reads its path like that. */
const findRule = (
  apis: readonly ApiRule[],
  url: URL,
): { rule: ApiRule; isClear: boolean } | undefined => {
  // One comparison rules out every other origin, before anything is split.
  const near = apis.filter(({ origin }) => origin === url.origin)
  if (near.length === 0 || url.username || url.password) return
  // A blob: URL has the origin of the page that made it.
  if (url.protocol === 'blob:') return
  const path = segmentsOf(url.pathname)
  const rule = near.find(({ segments }) => startsWithSegments(path, segments))
  if (!rule) return
  const read = segmentsRead(url.pathname)
  // A server may find the way into a closer API, which has rules of its own.
  const closest = near.find(
    (each) => each === rule || (read && !each.isPublic && startsWithSegments(read, each.segments)),
  )
  return { rule, isClear: !!read && closest === rule }
}

/** Why this request to an API cannot have the token; undefined if it can. */
const reasonAgainst = (
  request: Request,
  { destinations, methods }: ApiRule,
): Reason | undefined => {
  // No-cors requests, scripts, styles, frames and the like never carry a token.
  if (request.mode !== 'cors' && request.mode !== 'same-origin') return 'mode'
  if (request.destination && !destinations?.includes(request.destination)) return 'destination'
  if (methods?.includes(request.method) === false) return 'method'
  // The worker cannot send it again: only a same-origin request may have this mode.
  if (request.cache === 'only-if-cached') return 'cache'
  // The app has its own idea of who it is in this request.
  const { headers } = request
  return headers.has('authorization') || headers.has('dpop') ? 'authorization' : undefined
}

/**
 * Creates the decision which requests are ours. It is synchronous, because a worker that has not
 * called `respondWith` when its listener returns has declined; and pure, apart from the endpoints
 * of the authorization server, which discovery finds out later.
 */
export function createIntercept({
  config: { apis, authUrls, issuer },
  endpoints,
  withheld,
}: {
  config: InterceptConfig
  endpoints: Pick<ProtocolEndpoints, 'includes'>
  withheld?: Withheld
}): Intercept {
  const { origin: appOrigin } = new URL(authUrls.done)
  const issuerOrigin = new URL(issuer).origin
  // With the app on the same origin, every form that it sends would have to be looked up.
  const isApart = issuerOrigin !== appOrigin
  const authPages = new Map(
    Object.entries(authUrls).map(([page, url]) => {
      const { origin, pathname } = new URL(url)
      return [origin + pathname, page as AuthPage]
    }),
  )

  return (request, url) => {
    const page = authPages.get(url.origin + url.pathname)
    const isNavigation = request.mode === 'navigate'
    if (page) return { kind: isNavigation ? 'auth-navigation' : 'auth-subresource', page }
    if (isNavigation) return
    const found = findRule(apis, url)
    const rule = found?.isClear ? found.rule : undefined
    const isPost = request.method === 'POST'
    const isEndpoint = (rule ?? isPost) ? endpoints.includes(url) : undefined
    const mayBeOne = !rule && isApart && url.origin === issuerOrigin
    if (isPost && (isEndpoint ?? mayBeOne)) return { kind: 'endpoint' }
    if (found?.rule.isPublic) return
    const reason = rule
      ? isEndpoint
        ? 'endpoint'
        : reasonAgainst(request, rule)
      : found
        ? 'path'
        : 'unlisted'
    if (rule && !reason) return { kind: 'api', rule }
    // Of other requests to the app's own origin, most are for its files.
    if (reason && (found || (request.mode === 'cors' && url.origin !== appOrigin))) {
      withheld?.(request, reason, found?.rule)
    }
    return
  }
}
