import type { AuthPage } from '../src/shared/protocol.js'
import { type ApiRule, type Config, segmentsOf } from './options.js'

/** What a request is to us: a visit of an auth page, anything else there, or an API request. */
export type Interception =
  | { kind: 'auth-navigation'; page: AuthPage; url: URL }
  | { kind: 'auth-subresource'; page: AuthPage }
  | { kind: 'api'; rule: ApiRule }

/** The path as the most eager server might read it: decoded until nothing is left to decode. */
const decodeFully = (path: string): string => {
  const decoded = path.replace(/%([2-7][\da-f])/gi, (_, hex) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )
  return decoded === path ? path : decodeFully(decoded)
}

/** Is no separator and no dot segment hidden behind an encoding? */
const isPlainPath = (pathname: string): boolean => {
  if (!pathname.includes('%')) return true
  const segments = decodeFully(pathname).split(/[/\\]/)
  const isAsMany = segments.length === pathname.split('/').length
  return isAsMany && !segments.includes('.') && !segments.includes('..')
}

const startsWithSegments = (path: readonly string[], rule: readonly string[]): boolean =>
  rule.every((segment, index) => path[index] === segment)

/**
 * Decides which requests are ours. Synchronous, because a worker that has not called
 * `respondWith` when its listener returns has declined; pure, apart from the endpoints of the
 * authorization server, which are asked for because discovery learns them later.
 */
export const createIntercept = (
  { apis, authUrls }: Pick<Config, 'apis' | 'authUrls'>,
  isProtocolEndpoint: (url: URL) => boolean,
) => {
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
    // Navigations, no-cors requests, scripts, images and the like never carry a token.
    if (request.mode !== 'cors' && request.mode !== 'same-origin') return
    if (request.destination !== '') return
    // It cannot be sent again from here: only a same-origin request may have this mode.
    if (request.cache === 'only-if-cached') return
    // The app has its own idea of who it is in this request.
    if (request.headers.has('authorization')) return
    const rule = findRule(url)
    if (!rule || isProtocolEndpoint(url)) return
    return { kind: 'api', rule }
  }
}
