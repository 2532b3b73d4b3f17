import { describe, expect, test } from 'vitest'
import { createIntercept } from '../sw/intercept.js'
import { parseOptions } from '../sw/options.js'
import { workingOptions } from './support/worker-parts.js'

const app = 'https://app.example'

const config = parseOptions(
  workingOptions({
    apis: [
      'https://api.example.com/',
      'https://shared.example/api/',
      'https://shared.example/api/v2/private',
      'https://ported.example:8443/',
      'https://xn--bcher-kva.example/',
      '/api/',
    ],
  }),
  `${app}/`,
)

const endpoints = ['https://api.example.com/oauth/token', 'https://api.example.com/oauth/revoke?a']

const intercept = createIntercept(config, (url) =>
  endpoints.some((endpoint) => endpoint.split('?')[0] === url.origin + url.pathname),
)

/** A request as a worker sees it: Node's own refuses user names and `navigate`. */
const request = (url: string, more: Partial<Request> = {}): Request =>
  ({
    method: 'GET',
    mode: 'cors' as const,
    destination: '' as const,
    cache: 'default' as const,
    headers: new Headers(),
    ...more,
    url: new URL(url, `${app}/somewhere/page.html`).href,
  }) as Request

const apiOf = (url: string, more: Partial<Request> = {}): string | undefined => {
  const found = intercept(request(url, more))
  if (found?.kind !== 'api') return found && 'not an API'
  return `${found.rule.origin}/${found.rule.segments.join('/')}`
}

describe('an API request', () => {
  test.each([
    ['https://api.example.com/', 'https://api.example.com/'],
    ['https://api.example.com', 'https://api.example.com/'],
    ['https://api.example.com?q=1', 'https://api.example.com/'],
    ['https://api.example.com#fragment', 'https://api.example.com/'],
    ['https://api.example.com/orders', 'https://api.example.com/'],
    ['https://api.example.com/orders/1?x=%2f#y', 'https://api.example.com/'],
    ['HTTPS://API.EXAMPLE.COM/orders', 'https://api.example.com/'],
    ['https://api.example.com:443/orders', 'https://api.example.com/'],
    ['https://api%2eexample.com/orders', 'https://api.example.com/'],
    ['https://api。example.com/orders', 'https://api.example.com/'],
    ['https://shared.example/api', 'https://shared.example/api'],
    ['https://shared.example/api/', 'https://shared.example/api'],
    ['https://shared.example/api?q', 'https://shared.example/api'],
    ['https://shared.example/api/orders', 'https://shared.example/api'],
    ['https://shared.example/api/v2', 'https://shared.example/api'],
    ['https://shared.example/api/v2/privateer', 'https://shared.example/api'],
    ['https://shared.example/api/v2/private', 'https://shared.example/api/v2/private'],
    ['https://shared.example/api/v2/private/x', 'https://shared.example/api/v2/private'],
    ['https://shared.example/other/../api/x', 'https://shared.example/api'],
    ['https://shared.example/other/%2e%2e/api/x', 'https://shared.example/api'],
    ['https://shared.example\\api\\x', 'https://shared.example/api'],
    ['https://shared.example/api/with%20space', 'https://shared.example/api'],
    ['https://shared.example/api/100%25', 'https://shared.example/api'],
    ['https://shared.example/api/caf%C3%A9', 'https://shared.example/api'],
    ['https://shared.example/api/a..b/...', 'https://shared.example/api'],
    ['https://shared.example/api/.hidden', 'https://shared.example/api'],
    ['https://ported.example:8443/x', 'https://ported.example:8443/'],
    ['https://bücher.example/x', 'https://xn--bcher-kva.example/'],
    ['https://BÜCHER.example/x', 'https://xn--bcher-kva.example/'],
    ['/api/orders', `${app}/api`],
    ['../api/orders', `${app}/api`],
  ])('%s belongs to %s (IN-01)', (url, rule) => {
    expect(apiOf(url)).toBe(rule)
  })

  test.each([
    // Another host
    'https://api.example.com.evil.net/orders',
    'https://evil-api.example.com/orders',
    'https://evil.api.example.com/orders',
    'https://example.com/orders',
    'https://api.example.co/orders',
    'https://api-example.com/orders',
    'https://apixexample.com/orders',
    'https://api.example.com./orders',
    'https://api.example.com../orders',
    'https://xn--api-example-com.net/orders',
    'https://аpi.example.com/orders',
    'https://bucher.example/x',
    'https://xn--mller-kva.example/x',
    // Another user, port or scheme
    'https://api.example.com@evil.net/orders',
    'https://api.example.com:x@evil.net/orders',
    'https://user@api.example.com/orders',
    'https://user:password@api.example.com/orders',
    'https://:password@api.example.com/orders',
    'https://evil.net/https://api.example.com/orders',
    'https://evil.net\\@api.example.com/orders',
    'https://evil.net#@api.example.com/',
    'https://evil.net?@api.example.com/',
    'https://api.example.com:444/orders',
    'https://api.example.com:80/orders',
    'https://ported.example/x',
    'https://ported.example:443/x',
    'https://ported.example:8444/x',
    'http://api.example.com/orders',
    'http://api.example.com:443/orders',
    'wss://api.example.com/orders',
    'ftp://api.example.com/orders',
    'blob:https://api.example.com/0f3a',
    'data:text/plain,https://api.example.com/',
    // A neighbour
    'https://shared.example/',
    'https://shared.example/apiary',
    'https://shared.example/api-docs',
    'https://shared.example/api.json',
    'https://shared.example/API/orders',
    'https://shared.example/Api',
    'https://shared.example//api/orders',
    'https://shared.example/x/api/orders',
    'https://shared.example/%61pi/orders',
    'https://shared.example/api%20/orders',
    'https://shared.example/api;x/orders',
    'https://shared.example/ap%69/orders',
    '/apiary',
    '/somewhere/api/orders',
    // Out of the API by dot segments, hidden or not
    'https://shared.example/api/../admin',
    'https://shared.example/api/./../admin',
    'https://shared.example/api/%2e%2e/admin',
    'https://shared.example/api/%2E./admin',
    'https://shared.example/api\\..\\admin',
    'https://shared.example/api/..\\admin',
    'https://shared.example/api/%252e%252e/admin',
    'https://shared.example/api/.%252e/admin',
    'https://shared.example/api/%25252e%25252E/admin',
    'https://shared.example/api/%252e/orders',
    'https://shared.example/api/%25%32%65%25%32%65/admin',
    'https://shared.example/api/%%32%65%%32%65/admin',
    // A slash or backslash that only the server sees
    'https://shared.example/api%2forders',
    'https://shared.example/api/%2f../admin',
    'https://shared.example/api/..%2fadmin',
    'https://shared.example/api/..%2Fadmin',
    'https://shared.example/api/..%5cadmin',
    'https://shared.example/api/..%5Cadmin',
    'https://shared.example/api/..%252fadmin',
    'https://shared.example/api/..%255Cadmin',
    'https://shared.example/api/..%25252fadmin',
    'https://shared.example/api/..%25%32%66admin',
    'https://shared.example/api/..%%32%66admin',
    'https://shared.example/api/..%%35%63admin',
    'https://shared.example/api/orders%2f1',
  ])('is not %s (IN-01)', (url) => {
    expect(apiOf(url)).toBeUndefined()
  })

  test.each(['cors', 'same-origin'] as const)('may have the mode %s (IN-03)', (mode) => {
    expect(apiOf('/api/orders', { mode })).toBeDefined()
  })

  test.each(['navigate', 'no-cors', 'websocket', 'webtransport'])(
    'is none with the mode %s (IN-03)',
    (mode) => {
      expect(intercept(request('/api/orders', { mode: mode as RequestMode }))).toBeUndefined()
    },
  )

  test.each([
    ...['document', 'iframe', 'frame', 'script', 'style', 'worker', 'sharedworker', 'object'],
    ...['embed', 'report', 'image', 'audio', 'video', 'track', 'font', 'manifest', 'xslt'],
    ...['serviceworker', 'audioworklet', 'paintworklet', 'json'],
  ])('is none with the destination %s (IN-03)', (destination) => {
    const more = { destination: destination as RequestDestination }
    expect(intercept(request('/api/orders', more))).toBeUndefined()
  })

  test.each([...['default', 'no-store', 'reload', 'no-cache', 'force-cache']] as const)(
    'may have the cache mode %s',
    (cache) => {
      expect(apiOf('/api/orders', { cache })).toBeDefined()
    },
  )

  test('is none with the cache mode only-if-cached, which cannot be sent again', () => {
    const more = { cache: 'only-if-cached', mode: 'same-origin' } as const
    expect(apiOf('/api/orders', more)).toBeUndefined()
  })

  test.each(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND'])(
    'may have the method %s',
    (method) => {
      expect(apiOf('/api/orders', { method })).toBeDefined()
    },
  )

  test.each(['authorization', 'Authorization', 'AUTHORIZATION'])(
    'is none with a header %s of its own (IN-06)',
    (name) => {
      const headers = new Headers({ [name]: 'Basic eDp5' })
      expect(apiOf('/api/orders', { headers })).toBeUndefined()
    },
  )

  test('is none with an Authorization that is empty (IN-06)', () => {
    const headers = new Headers({ authorization: '' })
    expect(apiOf('/api/orders', { headers })).toBeUndefined()
  })

  test.each([
    'https://api.example.com/oauth/token',
    'https://api.example.com/oauth/token?x=1#y',
    'https://API.example.com:443/oauth/token',
    'https://api.example.com/oauth/revoke',
  ])('is none at an endpoint of the authorization server: %s (CF-02)', (url) => {
    expect(apiOf(url, { method: 'POST' })).toBeUndefined()
  })

  test('is one beside an endpoint of the authorization server', () => {
    expect(apiOf('https://api.example.com/oauth/tokens')).toBe('https://api.example.com/')
    expect(apiOf('https://api.example.com/oauth/')).toBe('https://api.example.com/')
  })

  test('gets the closest of the rules that cover it (IN-11)', () => {
    const rules = ['/', '/a/b/', '/a/'].map((path) => `https://api.example.com${path}`)
    const { apis, authUrls } = parseOptions(workingOptions({ apis: rules }), `${app}/`)
    const closest = createIntercept({ apis, authUrls }, () => false)
    const segmentsFor = (path: string) => {
      const found = closest(request(`https://api.example.com${path}`))
      return found?.kind === 'api' && found.rule.segments
    }
    expect(segmentsFor('/a/b/c')).toEqual(['a', 'b'])
    expect(segmentsFor('/a/bc')).toEqual(['a'])
    expect(segmentsFor('/ab')).toEqual([])
  })
})

describe('an auth page', () => {
  const pages = ['login', 'silent', 'callback', 'done', 'logout']

  test.each(pages)('%s is answered as a navigation (CB-01)', (page) => {
    const url = `${app}/tokenward/${page}.html?code=x&state=y`
    const found = intercept(request(url, { mode: 'navigate', destination: 'document' }))
    expect(found).toMatchObject({ kind: 'auth-navigation', page })
    expect(found).toHaveProperty('url.href', url)
  })

  test.each(pages)('%s is answered as a navigation of a frame, by GET or POST (CB-04)', (page) => {
    for (const method of ['GET', 'POST']) {
      const more = { mode: 'navigate', destination: 'iframe', method } as const
      const found = intercept(request(`/tokenward/${page}.html`, more))
      expect(found).toMatchObject({ kind: 'auth-navigation', page })
    }
  })

  test.each(pages)('%s is no navigation if a script, image or worker asks (CB-05)', (page) => {
    const kinds = (['cors', 'no-cors', 'same-origin'] as const).flatMap((mode) =>
      (['', 'script', 'image', 'worker'] as const).map((destination) => {
        return intercept(request(`/tokenward/${page}.html?code=x`, { mode, destination }))
      }),
    )
    expect(new Set(kinds.map((found) => found?.kind))).toEqual(new Set(['auth-subresource']))
  })

  test('is ours also with an own Authorization, or in an API that covers it', () => {
    const apis = ['/']
    const wide = createIntercept(parseOptions(workingOptions({ apis }), `${app}/`), () => false)
    const headers = new Headers({ authorization: 'Bearer x' })
    const url = '/tokenward/callback.html'
    expect(wide(request(url, { headers }))?.kind).toBe('auth-subresource')
    expect(wide(request('/tokenward/', { headers: new Headers() }))?.kind).toBe('api')
  })

  test.each([
    '/tokenward/',
    '/tokenward',
    '/tokenward/callback',
    '/tokenward/callback.html/',
    '/tokenward/callback.htm',
    '/tokenward/callback.html.bak',
    '/tokenward/Callback.html',
    '/tokenward/CALLBACK.HTML',
    '/Tokenward/callback.html',
    '/tokenward/%63allback.html',
    '/tokenward/callback%2ehtml',
    '/tokenward%2fcallback.html',
    '/tokenward//callback.html',
    '//app.example//tokenward/callback.html',
    '/tokenward/callback.html%20',
    '/tokenward/callback.html;x',
    '/tokenward/callback.html%3Fcode=x',
    '/tokenward/other.html',
    '/x/tokenward/callback.html',
    '/callback.html',
    'https://app.example:444/tokenward/callback.html',
    'http://app.example/tokenward/callback.html',
    'https://app.example./tokenward/callback.html',
    'https://app.example.evil.net/tokenward/callback.html',
    'https://evil.net/tokenward/callback.html',
  ])('is not %s (CB-05)', (url) => {
    expect(intercept(request(url, { mode: 'navigate', destination: 'document' }))).toBeUndefined()
  })

  test('may be the redirect URI that is registered already, and then the default is none', () => {
    const redirectUri = `${app}/signin-oidc`
    const own = createIntercept(
      parseOptions(workingOptions({ redirectUri }), `${app}/`),
      () => false,
    )
    const visit = (url: string) => own(request(url, { mode: 'navigate' }))
    expect(visit('/signin-oidc?code=x')).toMatchObject({ page: 'callback' })
    expect(visit('/tokenward/callback.html')).toBeUndefined()
    expect(visit('/tokenward/done.html')).toMatchObject({ page: 'done' })
  })
})

test('every other request is declined (IN-05)', () => {
  for (const url of ['/', '/index.html', 'https://cdn.example/lib.js', 'about:blank']) {
    for (const mode of ['navigate', 'cors', 'no-cors', 'same-origin'] as const) {
      expect(intercept(request(url, { mode }))).toBeUndefined()
    }
  }
})
