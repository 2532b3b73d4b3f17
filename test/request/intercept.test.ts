import { describe, expect, test } from 'vitest'
import { endpointOf } from '../../sw/http/server-path.js'
import type { ApiOptions, TokenWorkerOptions } from '../../sw/options/options.js'
import { parseOptions } from '../../sw/options/parse-options.js'
import { createIntercept, type InterceptConfig } from '../../sw/request/intercept.js'
import { workingOptions } from '../support/worker-parts.js'

const app = 'https://app.example'

const config = parseOptions(
  workingOptions({
    apis: [
      'https://api.example.com/',
      'https://shared.example/api/',
      'https://shared.example/api/v2/private',
      'https://ported.example:8443/',
      'https://xn--bcher-kva.example/',
      'https://127.0.0.1:9443/',
      'https://[::1]:9443/',
      '/api/',
    ],
  }),
  `${app}/`,
)

const endpoints = ['https://api.example.com/oauth/token', 'https://api.example.com/oauth/revoke']

/** The decision for requests alone, without the URL that the listener has parsed already. */
const interceptWith = (config: InterceptConfig, includes: (url: URL) => boolean | undefined) => {
  const intercept = createIntercept({ config, endpoints: { includes } })
  return (request: Request) => intercept(request, new URL(request.url))
}

const intercept = interceptWith(config, (url) => endpoints.includes(endpointOf(url)))

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
    ['https:///api.example.com/orders', 'https://api.example.com/'],
    ['https://api.exa\tmple.com/ord\ners', 'https://api.example.com/'],
    ['https://ａｐｉ.example.com/orders', 'https://api.example.com/'],
    ['https://api.ex\u00adample.com/orders', 'https://api.example.com/'],
    ['https://api.example.com:0443/orders', 'https://api.example.com/'],
    ['https://@api.example.com/orders', 'https://api.example.com/'],
    ['https://shared.example/api/;/orders', 'https://shared.example/api'],
    ['https://shared.example/api/orders;v=1/x', 'https://shared.example/api'],
    ['https://shared.example/api/orders;a=../x', 'https://shared.example/api'],
    ['https://shared.example/api//x', 'https://shared.example/api'],
    ['https://shared.example/api/x%3Fy', 'https://shared.example/api'],
    ['https://127.1:9443/x', 'https://127.0.0.1:9443/'],
    ['https://2130706433:9443/x', 'https://127.0.0.1:9443/'],
    ['https://0x7f.0.0.1:9443/x', 'https://127.0.0.1:9443/'],
    ['https://0177.0.0.1:9443/x', 'https://127.0.0.1:9443/'],
    ['https://127%2e0.0.1:9443/x', 'https://127.0.0.1:9443/'],
    ['https://[0:0::0:1]:9443/x', 'https://[::1]:9443/'],
    ['https://[::0.0.0.1]:9443/x', 'https://[::1]:9443/'],
    ['https://shared.example/api/with%20space', 'https://shared.example/api'],
    ['https://shared.example/api/100%25', 'https://shared.example/api'],
    ['https://shared.example/api/caf%C3%A9', 'https://shared.example/api'],
    ['https://shared.example/api/caf%E9.txt', 'https://shared.example/api'],
    ['https://shared.example/api/cr%E9%E9e%20ici', 'https://shared.example/api'],
    // What stands for a slash is data in a segment.
    ['https://shared.example/api/orders%2f1', 'https://shared.example/api'],
    ['https://shared.example/api/v4/projects/group%2Fproject/x', 'https://shared.example/api'],
    ['https://shared.example/api/queues/%2F/orders', 'https://shared.example/api'],
    ['https://shared.example/api/queues/%2f', 'https://shared.example/api'],
    ['https://shared.example/api/@scope%2fname', 'https://shared.example/api'],
    ['https://shared.example/api/b/o/photos%2F2024%2Fme.v1.jpg', 'https://shared.example/api'],
    ["https://shared.example/api/Files('a%2Fb')/$value", 'https://shared.example/api'],
    ['https://shared.example/api/id/https%3A%2F%2Fx.example%2F%3Fa', 'https://shared.example/api'],
    ['https://shared.example/api/id/https%253A%252F%252Fx.example', 'https://shared.example/api'],
    ['https://shared.example/api/share/C%3A%5Cdata%5c.git', 'https://shared.example/api'],
    ['https://api.example.com/group%2Fproject', 'https://api.example.com/'],
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
    // Longer or shorter than the host that is listed
    ['another host', 'https://api.example.com.evil.net/orders'],
    ['another host', 'https://evil-api.example.com/orders'],
    ['another host', 'https://evil.api.example.com/orders'],
    ['another host', 'https://example.com/orders'],
    ['another host', 'https://api.example.co/orders'],
    ['another host', 'https://api.example.commerce/orders'],
    ['another host', 'https://api-example.com/orders'],
    ['another host', 'https://apixexample.com/orders'],
    ['another host', 'https://evil.net/https://api.example.com/orders'],
    ['another host', 'https://evil.net/?https://api.example.com/'],
    ['another host: no wildcard', 'https://*.example.com/orders'],
    ['another host: one dot is not none', 'https://api.example.com./orders'],
    ['another host: two dots', 'https://api.example.com../orders'],
    ['another host: an empty label', 'https://api..example.com/orders'],
    ['another host: an encoded dot at its end', 'https://api.example.com%2e/orders'],
    ['another host: the slash is no dot', 'https://api%2eexample.com.evil.net/orders'],
    ['another host: a soft dot at its end', 'https://api.example.com。evil.net/orders'],
    // Letters that look alike
    ['another host: its а is Cyrillic', 'https://аpi.example.com/orders'],
    ['another host: its і is Cyrillic', 'https://apі.example.com/orders'],
    ['another host: its ɑ is Latin alpha', 'https://ɑpi.example.com/orders'],
    ['another host: the same in ASCII', 'https://xn--pi-6kc.example.com/orders'],
    ['another host: no umlaut', 'https://bucher.example/x'],
    ['another host: another umlaut', 'https://xn--mller-kva.example/x'],
    ['another host: punycode for a dot', 'https://xn--api-example-com.net/orders'],
    // A host that only a hasty reader finds
    ['a user name before another host', 'https://api.example.com@evil.net/orders'],
    ['a user name before another host', 'https://api.example.com:x@evil.net/orders'],
    ['a user name before another host', 'https://api.example.com%2f@evil.net/orders'],
    ['a user name before another host', 'https://api.example.com:443@evil.net/orders'],
    ['the path of another host', 'https://evil.net\\@api.example.com/orders'],
    ['the fragment of another host', 'https://evil.net#@api.example.com/'],
    ['the query of another host', 'https://evil.net?@api.example.com/'],
    ['a relative path', 'api.example.com/orders'],
    ['a relative path: there are too few slashes', 'https:api.example.com/orders'],
    ['credentials are for somebody else', 'https://user@api.example.com/orders'],
    ['credentials are for somebody else', 'https://user:password@api.example.com/orders'],
    ['credentials are for somebody else', 'https://:password@api.example.com/orders'],
    // Ports and schemes
    ['another port', 'https://api.example.com:444/orders'],
    ['another port', 'https://api.example.com:80/orders'],
    ['another port', 'https://ported.example/x'],
    ['another port', 'https://ported.example:443/x'],
    ['another port', 'https://ported.example:8444/x'],
    ['in clear text (IN-02)', 'http://api.example.com/orders'],
    ['in clear text (IN-02)', 'http://api.example.com:443/orders'],
    ['in clear text (IN-02)', 'http://app.example/api/orders'],
    ['another protocol', 'ws://api.example.com/orders'],
    ['another protocol', 'wss://api.example.com/orders'],
    ['another protocol', 'ftp://api.example.com/orders'],
    ['of the page itself', 'blob:https://api.example.com/0f3a'],
    ['of the page itself', 'filesystem:https://api.example.com/temporary/orders'],
    ['no request', 'data:text/plain,https://api.example.com/'],
    ['no request', 'about:https://api.example.com/'],
    ['no request', 'javascript:https://api.example.com/'],
    ['an extension', 'chrome-extension://api.example.com/orders'],
    // Addresses
    ['another address', 'https://127.0.0.2:9443/x'],
    ['a name, not the address', 'https://localhost:9443/x'],
    ['another address: this is 127.0.1.0', 'https://127.0.256:9443/x'],
    ['a name, not the address', 'https://127.0.0.1.evil.net:9443/x'],
    ['the same machine, another host', 'https://[::ffff:127.0.0.1]:9443/x'],
    ['another address', 'https://[::2]:9443/x'],
    // A neighbour
    ['beside the API', 'https://shared.example/'],
    ['beside the API', 'https://shared.example/apiary'],
    ['beside the API', 'https://shared.example/api-docs'],
    ['beside the API', 'https://shared.example/api.json'],
    ['beside the API', 'https://shared.example/x/api/orders'],
    ['beside the API', '/apiary'],
    ['beside the API', '/somewhere/api/orders'],
    ['paths have cases', 'https://shared.example/API/orders'],
    ['paths have cases', 'https://shared.example/Api'],
    ['an empty segment comes first', 'https://shared.example//api/orders'],
    ['another segment to the browser', 'https://shared.example/%61pi/orders'],
    ['another segment to the browser', 'https://shared.example/ap%69/orders'],
    ['another segment', 'https://shared.example/api%20/orders'],
    ['another segment', 'https://shared.example/api;x/orders'],
    ['another segment', 'https://shared.example/api%3bx/orders'],
    ['another segment', 'https://shared.example/api%00/orders'],
    ['another segment', 'https://shared.example/api,/orders'],
    // Out of the API by dot segments that the browser resolves
    ['outside', 'https://shared.example/api/../admin'],
    ['outside', 'https://shared.example/api/./../admin'],
    ['outside', 'https://shared.example/api/%2e%2e/admin'],
    ['outside', 'https://shared.example/api/%2E./admin'],
    ['outside', 'https://shared.example/api\\..\\admin'],
    ['outside', 'https://shared.example/api/..\\admin'],
    ['outside: the parser takes tabs off', 'https://shared.example/api/.\t./admin'],
    ['outside: the parser takes newlines off', 'https://shared.example/api/\n../admin'],
    // By dots that only the server sees
    ['dots under a second layer', 'https://shared.example/api/%252e%252e/admin'],
    ['dots under a second layer', 'https://shared.example/api/.%252e/admin'],
    ['a dot under a second layer', 'https://shared.example/api/%252e/orders'],
    ['dots under a third layer', 'https://shared.example/api/%25252e%25252E/admin'],
    ['dots under a layer in parts', 'https://shared.example/api/%25%32%65%25%32%65/admin'],
    ['dots under a layer in parts', 'https://shared.example/api/%%32%65%%32%65/admin'],
    ['too many layers', `https://shared.example/api/%${'25'.repeat(20)}2e%2e/admin`],
    ['dots before a parameter', 'https://shared.example/api/..;/admin'],
    ['dots before a parameter', 'https://shared.example/api/..;x=1/admin'],
    ['dots before a parameter', 'https://shared.example/api/%2e%2e;x/admin'],
    ['dots before a parameter', 'https://shared.example/api/..%3b/admin'],
    ['dots before a parameter', 'https://shared.example/api/..%253bx/admin'],
    ['dots before a parameter', 'https://shared.example/api/.;/.;x/orders'],
    ['dots before a parameter', 'https://shared.example/api/x/..;'],
    ['dots before a query in hiding', 'https://shared.example/api/..%3f/x'],
    ['dots before a fragment in hiding', 'https://shared.example/api/..%23/x'],
    ['dots before the end of a C string', 'https://shared.example/api/..%00/x'],
    ['dots before the end of a C string', 'https://shared.example/api/..%00x/x'],
    ['dots beside white space', 'https://shared.example/api/..%20/admin'],
    ['dots beside white space', 'https://shared.example/api/%20../admin'],
    ['dots beside white space', 'https://shared.example/api/..%09/admin'],
    ['dots beside white space', 'https://shared.example/api/%0a../admin'],
    ['dots in an overlong form', 'https://shared.example/api/%c0%ae%c0%ae/admin'],
    ['dots in an overlong form', 'https://shared.example/api/%e0%80%ae%e0%80%ae/admin'],
    ['dots as IIS once had them', 'https://shared.example/api/%u002e%u002e/admin'],
    ['dots of full width', 'https://shared.example/api/%ef%bc%8e%ef%bc%8e/admin'],
    ['dots of full width', 'https://shared.example/api/．．/admin'],
    ['two dots in one character', 'https://shared.example/api/‥/admin'],
    // By a slash or backslash that only the server sees
    ['a slash in hiding', 'https://shared.example/api%2forders'],
    ['a slash in hiding', 'https://shared.example/api/%2f../admin'],
    ['a slash in hiding', 'https://shared.example/api/..%2fadmin'],
    ['a slash in hiding', 'https://shared.example/api/..%2Fadmin'],
    ['a backslash in hiding', 'https://shared.example/api/..%5cadmin'],
    ['a backslash in hiding', 'https://shared.example/api/..%5Cadmin'],
    ['a slash under a second layer', 'https://shared.example/api/..%252fadmin'],
    ['a backslash under a second layer', 'https://shared.example/api/..%255Cadmin'],
    ['a slash under a third layer', 'https://shared.example/api/..%25252fadmin'],
    ['a slash under a layer in parts', 'https://shared.example/api/..%25%32%66admin'],
    ['a slash under a layer in parts', 'https://shared.example/api/..%%32%66admin'],
    ['a backslash under a layer in parts', 'https://shared.example/api/..%%35%63admin'],
    ['a slash in an overlong form', 'https://shared.example/api/..%c0%afadmin'],
    ['a backslash in an overlong form', 'https://shared.example/api/..%c1%9cadmin'],
    ['a slash of full width', 'https://shared.example/api/..／admin'],
    ['a slash in hiding before dots', 'https://shared.example/api/a%2f..%2f..%2fadmin'],
    ['a slash in hiding before dots', 'https://shared.example/api/a%2f..'],
    ['a slash in hiding before dots', 'https://shared.example/api/a%252f..%252f..%252fadmin'],
    ['a backslash in hiding before dots', 'https://shared.example/api/a%5c..%5C..%5cadmin'],
    ['a slash in hiding before a dot', 'https://shared.example/api/a%2f.%2fb'],
    ['a slash in hiding, into a closer API', 'https://shared.example/api/v2%2fprivate/x'],
    ['a backslash in hiding, into a closer API', 'https://shared.example/api/v2%5cprivate'],
    ['a parameter on the way into a closer API', 'https://shared.example/api/v2;x/private'],
    ['a slash too many on the way into a closer API', 'https://shared.example/api//v2/private'],
    ['dots beside what some servers drop', 'https://shared.example/api/.%E9./admin'],
    ['dots beside what some servers drop', 'https://shared.example/api/..%E9/admin'],
    ['dots around what some servers drop', 'https://shared.example/api/%2%E9e%2%E9e/admin'],
    ['dots beside a space of Latin-1', 'https://shared.example/api/..%A0/admin'],
    ['dots beside a line end of Latin-1', 'https://shared.example/api/..%85/admin'],
    ['dots of full width in GBK', 'https://shared.example/api/%A3%AE%A3%AE/admin'],
    ['dots of full width in Shift-JIS', 'https://shared.example/api/%81D%81D/admin'],
    ['dots of full width in Big5', 'https://shared.example/api/%A1D%A1D/admin'],
    ['dots of full width in EUC-JP', 'https://shared.example/api/%A1%A5%A1%A5/admin'],
    ['a slash in a sloppy overlong form', 'https://shared.example/api/..%c0%2fadmin'],
    ['a slash in a longer overlong form', 'https://shared.example/api/..%f0%80%80%afadmin'],
  ])('is not (%s) %s (IN-01)', (_why, url) => {
    expect(apiOf(url)).toBeUndefined()
  })

  test('is none at a URL that cannot be', () => {
    for (const url of [
      'https://api.example.com:99999/',
      'https://api.example.com:x/',
      'https://api.exa mple.com/',
      'https://api.example.com%00.evil.net/',
      'https://api.example.com%2f.evil.net/',
      'https://api.example.com%5c.evil.net/',
      'https://[::1',
    ]) {
      expect(URL.canParse(url), url).toBe(false)
    }
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

  const withRule = (rule: Omit<ApiOptions, 'url'>, url = '/api/') =>
    interceptWith(
      parseOptions(workingOptions({ apis: [{ url, ...rule }, '/api/v2'] }), `${app}/`),
      () => false,
    )

  const destinations = ['image', 'audio', 'video', 'track', 'font'] as const
  test.each(destinations)('of an element (%s) is one where its API says so (IN-03)', (each) => {
    const one = withRule({ destinations: [each] })
    for (const destination of [...destinations, 'script', 'style', 'document', ''] as const) {
      const expected = destination === each || destination === '' ? 'api' : undefined
      expect(one(request('/api/x', { destination }))?.kind, destination).toBe(expected)
    }
    // Without `crossorigin` there is nowhere to put a token.
    const mode = 'no-cors'
    expect(one(request('/api/x', { destination: each, mode }))).toBeUndefined()
    expect(one(request('/api/v2/x', { destination: each }))).toBeUndefined()
  })

  test('is none with a method that its API does not list (IN-03)', () => {
    const reading = withRule({ methods: ['GET', 'HEAD'] })
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'get']) {
      const expected = /^(GET|HEAD)$/.test(method) ? 'api' : undefined
      expect(reading(request('/api/x', { method }))?.kind, method).toBe(expected)
      // The closest API decides; a wider one does not step in.
      expect(reading(request('/api/v2', { method }))?.kind).toBe('api')
    }
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

  test.each(['authorization', 'Authorization', 'AUTHORIZATION', 'DPoP'])(
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

  test.each(['GET', 'PUT', 'DELETE'])(
    'is none at an endpoint of the authorization server: %s (CF-02)',
    (method) => {
      expect(apiOf('https://api.example.com/oauth/token?x=1#y', { method })).toBeUndefined()
      expect(apiOf('https://api.example.com/%6Fauth//revoke/', { method })).toBeUndefined()
    },
  )

  test('is one beside an endpoint of the authorization server', () => {
    expect(apiOf('https://api.example.com/oauth/tokens')).toBe('https://api.example.com/')
    expect(apiOf('https://api.example.com/oauth/')).toBe('https://api.example.com/')
  })

  test('gets the closest of the rules that cover it (IN-11)', () => {
    const rules = ['/', '/a/b/', '/a/'].map((path) => `https://api.example.com${path}`)
    const wide = parseOptions(workingOptions({ apis: rules }), `${app}/`)
    const closest = interceptWith(wide, () => false)
    const segmentsFor = (path: string) => {
      const found = closest(request(`https://api.example.com${path}`))
      return found?.kind === 'api' && found.rule.segments
    }
    expect(segmentsFor('/a/b/c')).toEqual(['a', 'b'])
    expect(segmentsFor('/a/bc')).toEqual(['a'])
    expect(segmentsFor('/ab')).toEqual([])
  })
})

describe('what an API leaves out', () => {
  const apis = [{ url: '/api/', except: ['public/', 'a/b'] }, '/api/public/me']
  const decide = interceptWith(
    parseOptions(workingOptions({ apis }), `${app}/`),
    ({ pathname }) => pathname === '/api/public/token',
  )
  const kindOf = (url: string, more?: Partial<Request>) => decide(request(url, more))?.kind

  test.each(['/api/public', '/api/public/', '/api/public/config?x', '/api/a/b/c'])(
    'goes out as if there were no worker: %s',
    (url) => {
      for (const method of ['GET', 'POST']) expect(kindOf(url, { method })).toBeUndefined()
    },
  )

  test.each([
    '/api/',
    '/api/publication',
    '/api/a/bc',
    '/api/x/public/',
    '/api/a%2fb',
    // A closer entry
    '/api/public/me',
  ])('is no more than that: %s', (url) => {
    expect(kindOf(url)).toBe('api')
  })

  test('has its endpoints of the authorization server all the same (IN-07)', () => {
    expect(kindOf('/api/public/token', { method: 'POST' })).toBe('endpoint')
  })
})

describe("a page's POST to an endpoint of the authorization server", () => {
  const kindOf = (found: ReturnType<typeof intercept>) => found?.kind

  test.each([
    'https://api.example.com/oauth/token',
    'https://api.example.com/oauth/token?x=1#y',
    'https://API.example.com:443/oauth/token',
    'https://api.example.com/oauth/revoke',
    'https://api.example.com/oauth//token/',
    'https://api.example.com/OAuth/Token',
    'https://api.example.com/oauth/%74oken',
    'https://api.example.com/oauth/token;x',
    'https://api.example.com/oauth/x/..;/token',
    'https://api.example.com/oauth/x/%252e%252e/token',
    'https://api.example.com/oauth%2ftoken',
  ])('is taken: %s (IN-07)', (url) => {
    for (const mode of ['cors', 'no-cors', 'same-origin'] as const) {
      const headers = new Headers({ authorization: 'Basic eDp5' })
      const found = intercept(request(url, { method: 'POST', mode, headers }))
      expect(found).toEqual({ kind: 'endpoint' })
    }
  })

  test('is not taken where it is a navigation, or no POST (IN-07)', () => {
    const url = endpoints[0] as string
    expect(intercept(request(url, { method: 'POST', mode: 'navigate' }))).toBeUndefined()
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']) {
      expect(intercept(request(url, { method }))).toBeUndefined()
    }
  })

  test('is no longer taken by its origin, once the endpoints are known (IN-07)', () => {
    expect(intercept(request('https://login.example/any', { method: 'POST' }))).toBeUndefined()
  })

  describe('that are not known yet', () => {
    const unaware = (more: Partial<TokenWorkerOptions> = {}) => {
      const guard = interceptWith(parseOptions(workingOptions(more), `${app}/`), () => undefined)
      return (url: string, extra: Partial<Request> = {}) =>
        kindOf(guard(request(url, { method: 'POST', ...extra })))
    }

    test('is taken by its origin, to be looked up (IN-07)', () => {
      const guard = unaware()
      expect(guard('https://login.example/any')).toBe('endpoint')
      expect(guard('https://login.example/any', { mode: 'no-cors' })).toBe('endpoint')
      expect(guard('https://login.example/any', { method: 'GET' })).toBeUndefined()
      expect(guard('https://login.example/any', { mode: 'navigate' })).toBeUndefined()
      expect(guard('https://login.example:444/any')).toBeUndefined()
      expect(guard('https://login.example.evil.net/any')).toBeUndefined()
    })

    test('is left to an API that covers it (IN-07)', () => {
      const guard = unaware({ apis: ['https://login.example/api/'] })
      expect(guard('https://login.example/api/orders')).toBe('api')
      expect(guard('https://login.example/token')).toBe('endpoint')
    })

    test('is not taken where the app is on the same origin (IN-07)', () => {
      const guard = unaware({ issuer: `${app}/id` })
      expect(guard(`${app}/id/token`)).toBeUndefined()
      expect(guard('/form')).toBeUndefined()
    })
  })
})

describe('an auth page', () => {
  const pages = ['login', 'silent', 'callback', 'done', 'logout']

  test.each(pages)('%s is answered as a navigation (CB-01)', (page) => {
    const url = `${app}/tokenward/${page}.html?code=x&state=y`
    const found = intercept(request(url, { mode: 'navigate', destination: 'document' }))
    expect(found).toEqual({ kind: 'auth-navigation', page })
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
    const wide = interceptWith(parseOptions(workingOptions({ apis }), `${app}/`), () => false)
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
    const own = interceptWith(parseOptions(workingOptions({ redirectUri }), `${app}/`), () => false)
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

describe('a request without a token is noted with the reason', () => {
  const reasonFor = (
    url: string,
    more: Partial<Request> = {},
    api: Omit<ApiOptions, 'url'> = {},
  ) => {
    const reasons: string[] = []
    const decide = createIntercept({
      config: parseOptions(workingOptions({ apis: [{ url: '/api/', ...api }] }), `${app}/`),
      endpoints: { includes: ({ pathname }) => pathname === '/api/token' },
      withheld: (_request, reason) => reasons.push(reason),
    })
    const one = request(url, more)
    decide(one, new URL(one.url))
    return reasons.join()
  }

  test.each<[string, string, Partial<Request>?, Omit<ApiOptions, 'url'>?]>([
    ['', '/api/orders'],
    ['path', '/api/..%2fadmin'],
    ['path', '/api/..%2fadmin', { method: 'POST' }],
    ['method', '/api/orders', { method: 'PUT' }, { methods: ['GET'] }],
    ['destination', '/api/orders', { destination: 'image' }],
    ['mode', '/api/orders', { mode: 'no-cors', destination: 'image' }],
    ['cache', '/api/orders', { cache: 'only-if-cached' }],
    ['authorization', '/api/orders', { headers: new Headers({ authorization: 'Basic eDp5' }) }],
    ['endpoint', '/api/token'],
    ['', '/api/public/x', {}, { except: ['public'] }],
    ['unlisted', 'https://app.example:8443/api/orders'],
    ['unlisted', 'https://other.example/', { method: 'POST' }],
    // Not what could have one.
    ['', '/api/orders', { mode: 'navigate', destination: 'document' }],
    ['', '/style.css', { mode: 'no-cors', destination: 'style' }],
    ['', '/other'],
    ['', 'https://cdn.example/lib.js', { mode: 'no-cors', destination: 'script' }],
    ['', '/tokenward/done.html'],
  ])('%j: %s %o %o', (reason, url, more, api) => {
    expect(reasonFor(url, more, api)).toBe(reason)
  })
})
