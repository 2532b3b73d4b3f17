import type { AuthPage } from '../../src/shared/protocol.js'
import { isPlainPath, segmentsOf } from '../http/server-path.js'
import type { ApiPart } from '../offline/api-part.js'

/** One API as requests are compared with it. */
export interface ApiRule {
  origin: string
  /** Path segments that a request's path must start with. */
  segments: readonly string[]
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
  | { kind: 'auth-navigation'; page: AuthPage; url: URL }
  | { kind: 'auth-subresource'; page: AuthPage }
  | { kind: 'endpoint'; url: URL }
  | { kind: 'api'; rule: ApiRule }

const startsWithSegments = (path: readonly string[], rule: readonly string[]): boolean =>
  rule.every((segment, index) => path[index] === segment)

/**
 * Decides which requests are ours. Synchronous, because a worker that has not called
 * `respondWith` when its listener returns has declined; pure, apart from the endpoints of the
 * authorization server, which are asked for because discovery learns them later: undefined as long
 * as they are not known.
 */
export const createIntercept = (
  { apis, authUrls, issuer }: Pick<Config, 'apis' | 'authUrls' | 'issuer'>,
  isProtocolEndpoint: (url: URL) => boolean | undefined,
) => {
  const issuerOrigin = new URL(issuer).origin
  // With the app on the same origin, every form that it sends would have to be looked up.
  const isApart = issuerOrigin !== new URL(authUrls.done).origin
  const authPages = new Map(
    Object.entries(authUrls).map(([page, url]) => {
      const { origin, pathname } = new URL(url)
      return [origin + pathname, page as AuthPage]
    }),
  )

  const findRule = (url: URL): ApiRule | undefined => {
    // Every other origin is out by one comparison, before anything is split.
    const near = apis.filter(({ origin }) => origin === url.origin)
    if (near.length === 0 || url.username || url.password || !isPlainPath(url.pathname)) return
    // A blob: URL has the origin of the page that made it.
    if (url.protocol === 'blob:') return
    const path = segmentsOf(url.pathname)
    return near.find(({ segments }) => startsWithSegments(path, segments))
  }

  return (request: Request): Interception | undefined => {
    const url = new URL(request.url)
    const page = authPages.get(url.origin + url.pathname)
    if (page) {
      return request.mode === 'navigate'
        ? { kind: 'auth-navigation', page, url }
        : { kind: 'auth-subresource', page }
    }
    if (request.mode === 'navigate') return
    const rule = findRule(url)
    const isPost = request.method === 'POST'
    if (!rule && !isPost) return
    const isEndpoint = isProtocolEndpoint(url)
    const mayBeOne = !rule && isApart && url.origin === issuerOrigin
    if (isPost && (isEndpoint ?? mayBeOne)) return { kind: 'endpoint', url }
    if (!rule || isEndpoint) return
    // No-cors requests, scripts, styles, frames and the like never carry a token.
    if (request.mode !== 'cors' && request.mode !== 'same-origin') return
    if (request.destination && !rule.destinations?.includes(request.destination)) return
    if (rule.methods?.includes(request.method) === false) return
    // It cannot be sent again from here: only a same-origin request may have this mode.
    if (request.cache === 'only-if-cached') return
    // The app has its own idea of who it is in this request.
    if (request.headers.has('authorization') || request.headers.has('dpop')) return
    return { kind: 'api', rule }
  }
}
