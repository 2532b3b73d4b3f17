// The headers that docs/security.md recommends: browser tests run under them.

/** For inline scripts of the test pages. A real site makes a new one for each response. */
export const NONCE = 'nonce-of-the-tests'

const authPage = /\/tokenward\/(?:login|silent|callback|done|logout)\.html$/

export interface Origins {
  /** URLs of the app's worker scripts. */
  workers: string[]
  /** Origin of the API. */
  api: string
  /** Origin of the authorization server. */
  server: string
}

/** Directives of a Content-Security-Policy; `undefined` leaves one out. */
export type Directives = Record<string, string | undefined>

const join = (directives: Directives): string =>
  Object.entries(directives)
    .flatMap(([name, value]) => (value === undefined ? [] : `${name} ${value}`.trim()))
    .join('; ')

export const pagePolicy = ({ workers, api, server }: Origins): Directives => ({
  'default-src': "'self'",
  'script-src': `'nonce-${NONCE}' 'strict-dynamic'`,
  'object-src': "'none'",
  'base-uri': "'none'",
  'img-src': "'self' data:",
  'worker-src': workers.join(' '),
  'connect-src': `'self' ${api}`,
  'frame-src': `'self' ${server}`,
  'frame-ancestors': "'none'",
  'form-action': `'self' ${server}`,
  'trusted-types': 'tokenward',
  'require-trusted-types-for': "'script'",
})

export const workerPolicy = ({ api, server }: Origins): Directives => ({
  'default-src': "'none'",
  'script-src': "'self'",
  'connect-src': `'self' ${server} ${api}`,
})

/** What lets pages and workers talk to servers that only a test knows. */
export const anyServer = {
  page: { 'connect-src': '*', 'frame-src': '*' },
  worker: { 'connect-src': '*' },
}

/**
 * For `site.setHeaders`: what a path is served with. `page` and `worker` replace directives, `more`
 * adds headers to the pages. The auth pages have headers of their own.
 */
export const strictHeaders =
  (
    origins: Origins,
    {
      page = {},
      worker = {},
      more = {},
    }: { page?: Directives; worker?: Directives; more?: Record<string, string> } = {},
  ) =>
  (path: string) => {
    if (authPage.test(path)) return undefined
    return path.endsWith('sw.js')
      ? { 'content-security-policy': join({ ...workerPolicy(origins), ...worker }) }
      : { 'content-security-policy': join({ ...pagePolicy(origins), ...page }), ...more }
  }
