import { describe, expect, test } from 'vitest'
import { isTokenError } from '../../src/shared/errors.js'
import { tokenPlugin } from '../../sw/offline/token-plugin.js'
import type { TokenWorkerOptions } from '../../sw/options/options.js'
import { parseOptions } from '../../sw/options/parse-options.js'
import { jwks } from '../../sw/server/jwks.js'

const root = 'https://app.example/app/'

const good = {
  issuer: 'https://login.example',
  clientId: 'my-app',
  apis: ['https://api.example/'],
}

const metadata = {
  issuer: 'https://login.example',
  authorization_endpoint: 'https://login.example/authorize',
  token_endpoint: 'https://login.example/token',
}

/** Parses what a JavaScript user may write, with or without types. */
const parse = (more: object = {}, scope = root) =>
  parseOptions({ ...good, ...more } as TokenWorkerOptions, scope)

const messageOf = (work: () => unknown): string => {
  try {
    work()
  } catch (error) {
    if (isTokenError(error) && error.code === 'invalid_configuration') return error.message
    throw error
  }
  return 'accepted'
}

describe('a bad configuration is refused by name (CF-02)', () => {
  const api = (more: object) => ({ apis: [{ url: 'https://api.example/', ...more }] })
  const server = (more: object) => ({ issuer: { ...metadata, ...more } })

  test.each<[string, object, RegExp]>([
    ['no issuer', { issuer: undefined }, /issuer must be a URL/],
    ['an issuer that is no URL', { issuer: 'login.example' }, /issuer must be a URL/],
    ['an empty issuer', { issuer: '' }, /issuer must be a URL/],
    ['an issuer that is a list', { issuer: [good.issuer] }, /issuer must be a URL/],
    ['an issuer with http', { issuer: 'http://login.example' }, /issuer must use https/],
    ['a local issuer for a site', { issuer: 'http://localhost:3000' }, /issuer must use https/],
    ['an issuer with ftp', { issuer: 'ftp://login.example' }, /issuer must use https/],
    ['an issuer with javascript:', { issuer: 'javascript:alert(1)' }, /issuer must use https/],
    ['an issuer with a query', { issuer: 'https://login.example/?a=b' }, /issuer .*no query/],
    ['an issuer with a fragment', { issuer: 'https://login.example/#a' }, /issuer .*no fragment/],
    ['an issuer with a bare #', { issuer: 'https://login.example/#' }, /issuer .*no fragment/],
    ['an issuer with a bare ?', { issuer: 'https://login.example/?' }, /issuer .*no query/],
    ['an issuer with a user', { issuer: 'https://me@login.example' }, /issuer .*no user/],
    ['an issuer with a password', { issuer: 'https://:x@login.example' }, /issuer .*no user/],
    ['an issuer with a wildcard', { issuer: 'https://*.login.example' }, /issuer .*no wildcard/],
    ['metadata without issuer', server({ issuer: undefined }), /issuer must be a URL/],
    [
      'metadata without token endpoint',
      server({ token_endpoint: undefined }),
      /issuer: token_endpoint must be a URL/,
    ],
    [
      'metadata without authorization endpoint',
      server({ authorization_endpoint: undefined }),
      /issuer: authorization_endpoint must be a URL/,
    ],
    [
      'a token endpoint with http',
      server({ token_endpoint: 'http://login.example/token' }),
      /token_endpoint must use https/,
    ],
    [
      'keys with http that are used',
      { ...server({ jwks_uri: 'http://login.example/keys' }), idTokenSignature: jwks() },
      /jwks_uri must use https/,
    ],
    [
      'a logout endpoint that is a script',
      server({ end_session_endpoint: 'javascript:alert(1)' }),
      /end_session_endpoint must use https/,
    ],
    [
      'a server without S256 (AR-03)',
      server({ code_challenge_methods_supported: ['plain'] }),
      /code_challenge_methods_supported .*PKCE with S256/,
    ],
    ['no clientId', { clientId: undefined }, /clientId must be a string/],
    ['an empty clientId', { clientId: '' }, /clientId must be a string/],
    ['a clientId that is a number', { clientId: 42 }, /clientId must be a string/],
    ['no apis', { apis: undefined }, /apis must be a list/],
    ['apis that are a string', { apis: '/api/' }, /apis must be a list/],
    ['apis that are an object', { apis: { url: '/api/' } }, /apis must be a list/],
    ['an API that is null', { apis: [null] }, /apis: "null" must start with https/],
    ['an API that is a number', { apis: [5] }, /apis: "5" must start with https/],
    ['an API that is a list', { apis: [['/api/', '/b/']] }, /apis: .* must (be|start)/],
    [
      'an API whose expired is no function',
      { apis: [{ url: '/api/', expired: true }] },
      /expired must be a function/,
    ],
    [
      'a strategy that is a name',
      { apis: [{ url: '/api/', strategy: 'NetworkFirst' }] },
      /strategy must be one of Workbox, with tokenPlugin\(\)/,
    ],
    [
      'a strategy without our plugin',
      { apis: [{ url: '/api/', strategy: { plugins: [{}] } }] },
      /strategy must be one of Workbox, with tokenPlugin\(\)/,
    ],
    [
      'a strategy for which users are the same',
      {
        apis: [
          {
            url: '/api/',
            strategy: { plugins: [tokenPlugin()], matchOptions: { ignoreSearch: true } },
          },
        ],
      },
      /ignoreSearch must not be set: users could get each other's data/,
    ],
    [
      'a strategy with our plugin before one that changes keys',
      {
        apis: [
          {
            url: '/api/',
            strategy: { plugins: [tokenPlugin(), { cacheKeyWillBeUsed: () => '' }] },
          },
        ],
      },
      /tokenPlugin\(\) must come after plugins/,
    ],
    [
      'two queues with one name',
      {
        apis: [
          { url: '/a/', queue: { name: 'notes' } },
          { url: '/b/', queue: { name: 'notes' } },
        ],
      },
      /apis must not have two queues with the name "notes"/,
    ],
    [
      'a queue that is a name',
      { apis: [{ url: '/api/', queue: 'notes' }] },
      /queue must be tokenQueue/,
    ],
    ['an API without URL', { apis: [{ scope: 'a' }] }, /apis: "undefined" must start with https/],
    ['a relative API', { apis: ['api/'] }, /apis: "api\/" must start with https/],
    ['an API that climbs', { apis: ['../api/'] }, /must start with https/],
    ['an API without scheme', { apis: ['//api.example/'] }, /with one "\/"/],
    ['an API behind a backslash', { apis: ['/\\api.example/'] }, /with one "\/"/],
    ['an API that is only a host', { apis: ['api.example'] }, /must start with https/],
    ['an API with http', { apis: ['http://api.example/'] }, /apis: .* must use https/],
    ['an API with ws', { apis: ['wss://api.example/'] }, /must start with https/],
    ['a local API for a site', { apis: ['http://localhost:8080/'] }, /must use https/],
    ['every host', { apis: ['https://*/'] }, /apis: /],
    ['every subdomain', { apis: ['https://*.example/'] }, /no wildcard/],
    ['a wildcard path', { apis: ['https://api.example/*'] }, /no wildcard/],
    ['a wildcard path here', { apis: ['/api/*'] }, /no wildcard/],
    ['an API with a query', { apis: ['https://api.example/?a=b'] }, /no query/],
    ['an API with a fragment', { apis: ['/api/#a'] }, /no fragment/],
    ['an API with a user', { apis: ['https://me:x@api.example/'] }, /no user/],
    ['an API that is a RegExp', { apis: [/api/] }, /must start with https|unknown option/],
    ['an API twice (IN-11)', { apis: ['/api/', '/api'] }, /apis must not name .*\/api twice/],
    [
      'an API twice in two spellings (IN-11)',
      { apis: ['https://api.example/a', 'https://API.example:443/b/../a/'] },
      /twice/,
    ],
    ['a destination for scripts (IN-03)', api({ destinations: ['script'] }), /image, audio/],
    ['a path left out that is no list', api({ except: 'public/' }), /except must be a list/],
    ['a path left out that is none', api({ except: [''] }), /except must be a list/],
    ['a path left out from the root', api({ except: ['/public/'] }), /without a slash/],
    [
      'a path left out above the API',
      { apis: [{ url: '/api/', except: ['../public/'] }] },
      /below the API's/,
    ],
    ['a path left out that is the API', api({ except: ['./'] }), /below the API's/],
    ['a path left out with a wildcard', api({ except: ['public/*'] }), /like 'public/],
    ['a path left out twice', api({ except: ['public', 'public/'] }), /twice/],
    ['a destination that is no list', api({ destinations: 'image' }), /image, audio/],
    ['a method in small letters', api({ methods: ['get'] }), /'GET', 'HEAD'/],
    ['methods that are no list', api({ methods: 'GET' }), /'GET', 'HEAD'/],
    ['a wrong redirect', api({ redirect: 'manual' }), /'follow' or 'error'/],
    ['a wrong unauthenticated', api({ unauthenticated: 'drop' }), /'pass' or 'fail'/],
    ['a scope of an API that is a list', api({ scope: ['a', 'b'] }), /scope must be a string/],
    ['a resource that is a list', api({ resource: ['urn:a'] }), /resource must be a URI/],
    ['an unknown option of an API', api({ path: '/a' }), /unknown option of an API "path"/],
    ['an option of an API in other case', api({ URL: '/a' }), /"URL"\. Use url/],
    [
      'two resources',
      {
        apis: [
          { url: '/a/', resource: 'urn:a' },
          { url: '/b/', resource: 'urn:b' },
        ],
      },
      /more than one resource \(urn:a, urn:b\)/,
    ],
    ['jwks without its brackets', { idTokenSignature: jwks }, /must be jwks\(\)/],
    [
      'an audience that is no list',
      { trustedAudiences: 'urn:a' },
      /trustedAudiences must be a list/,
    ],
    ['an empty audience', { trustedAudiences: [''] }, /trustedAudiences must be a list/],
    ['an audience that is none', { trustedAudiences: [5] }, /trustedAudiences must be a list/],
    ['a scope that is a list', { scope: ['openid'] }, /scope must be a string/],
    ['authorizationParams that are a string', { authorizationParams: 'a=b' }, /must be an object/],
    ['authorizationParams that are a list', { authorizationParams: [] }, /must be an object/],
    ['a parameter that is a number', { authorizationParams: { max_age: 5 } }, /max_age must be a/],
    ['a leeway that is a string', { leeway: '60' }, /leeway must be a number of seconds/],
    ['a negative leeway', { leeway: -1 }, /leeway must be a number of seconds from 0/],
    ['a leeway that is no number', { leeway: Number.NaN }, /leeway/],
    ['a leeway in milliseconds', { leeway: 60_000 }, /leeway .* to 3600/],
    ['a negative rotationGrace', { rotationGrace: -1 }, /rotationGrace must be a number/],
    ['a rotationGrace that is no number', { rotationGrace: Number.NaN }, /rotationGrace must be/],
    ['a long rotationGrace', { rotationGrace: 3601 }, /rotationGrace .* from 0 to 3600/],
    ['no time for silent login', { silentLoginTimeout: 0 }, /silentLoginTimeout .* from 1 to 20/],
    ['a long silent login', { silentLoginTimeout: 21 }, /silentLoginTimeout .* from 1 to 20/],
    ['another storage', { storage: 'localStorage' }, /storage must be 'indexeddb' or 'memory'/],
    ['an authPath without slash', { authPath: 'auth' }, /authPath "auth" must be a folder/],
    ['an authPath from the root', { authPath: '/auth/' }, /authPath/],
    ['an authPath that climbs', { authPath: '../auth/' }, /authPath/],
    ['an authPath with dots', { authPath: './' }, /authPath/],
    ['an authPath that is a URL', { authPath: 'https://evil.example/' }, /authPath/],
    ['an empty authPath', { authPath: '' }, /authPath/],
    ['an encoded authPath', { authPath: 'a%2f/' }, /authPath/],
    ['a relative redirectUri', { redirectUri: '/callback' }, /redirectUri must be a URL/],
    [
      'a redirectUri elsewhere',
      { redirectUri: 'https://evil.example/app/cb' },
      /inside the worker/,
    ],
    [
      'a redirectUri outside the scope (AR-09)',
      { redirectUri: 'https://app.example/callback' },
      /redirectUri .* inside the worker's scope https:\/\/app\.example\/app\//,
    ],
    [
      'a redirectUri that climbs out of the scope (AR-09)',
      { redirectUri: `${root}../callback` },
      /inside the worker's scope/,
    ],
    [
      'a redirectUri that climbs out in disguise (AR-09)',
      { redirectUri: `${root}%2e%2E/callback` },
      /inside the worker's scope/,
    ],
    [
      'a redirectUri whose folder is a neighbour (AR-09)',
      { redirectUri: 'https://app.example/apple/callback' },
      /inside the worker's scope/,
    ],
    ...[
      ...['', 'index.html', 'Index.htm', 'default.aspx', 'auth/', 'auth/callback/', 'a/index.php'],
    ].map(
      (page) =>
        [
          `the redirectUri ${root}${page}, which is a page of the app`,
          { redirectUri: `${root}${page}` },
          /is a page of the app.*https:\/\/app\.example\/app\/tokenward\/callback\.html/,
        ] as [string, object, RegExp],
    ),
    ['a redirectUri with a query', { redirectUri: `${root}cb?a=b` }, /no query/],
    ['a redirectUri with a fragment', { redirectUri: `${root}cb#a` }, /no fragment/],
    ['a redirectUri with a bare #', { redirectUri: `${root}cb#` }, /no fragment/],
    [
      'a redirectUri that is another auth page',
      { redirectUri: `${root}tokenward/done.html` },
      /must not be one of the other auth pages/,
    ],
    [
      'a redirectUri that is another auth page in another spelling',
      { redirectUri: `${root}x/../tokenward/done.html` },
      /must be written as browsers write it: "https:.*\/app\/tokenward\/done\.html"/,
    ],
    [
      'a logoutUrl that is a string',
      { logoutUrl: 'https://login.example' },
      /logoutUrl must be a function/,
    ],
    ['a trace that is true', { trace: true }, /trace must be a function/],
    ['a dpop that is true', { dpop: true }, /dpop must be a function/],
  ])('%s', (_title, options, message) => {
    expect(messageOf(() => parse(options))).toMatch(message)
  })

  test.each([
    ...['client_id', 'code_challenge', 'code_challenge_method', 'dpop_jkt', 'id_token_hint'],
    ...['nonce', 'redirect_uri', 'request', 'request_uri', 'resource', 'response_mode'],
    ...['response_type', 'scope', 'state'],
  ])('authorizationParams with %s (AR-13)', (name) => {
    const options = { authorizationParams: { [name]: 'x' } }
    expect(messageOf(() => parse(options))).toContain(`must not contain ${name}`)
  })

  test.each([
    ['clientID', 'clientId'],
    ['client_id', 'clientId'],
    ['redirect_uri', 'redirectUri'],
    ['redirectURI', 'redirectUri'],
    ['Scope', 'scope'],
    ['authorization_params', 'authorizationParams'],
    ['audience', 'authorizationParams'],
    ['authority', 'issuer'],
    ['domain', 'issuer'],
    ['clientSecret', 'no secret: a browser cannot keep one, so register a public client'],
    ['client_secret', 'no secret: a browser cannot keep one, so register a public client'],
    ['responseType', 'one of: issuer clientId apis'],
    ['__proto', 'one of: issuer clientId apis'],
    ['toString', 'one of: issuer clientId apis'],
    ['constructor', 'one of: issuer clientId apis'],
  ])('the unknown option %s, with a suggestion (AR-01)', (name, remedy) => {
    const message = messageOf(() => parse({ [name]: 'x' }))
    expect(message).toContain(`unknown option "${name}". Use ${remedy}`)
  })

  test.each([undefined, null, 'https://login.example', [], 5])(
    '%j instead of options',
    (options) => {
      const message = messageOf(() => parseOptions(options as never, root))
      expect(message).toMatch(/options must be an object with issuer, clientId and apis/)
    },
  )
})

describe('options that are left out', () => {
  test('have the documented defaults', () => {
    expect(parse()).toEqual({
      issuer: 'https://login.example',
      metadata: undefined,
      clientId: 'my-app',
      apis: [
        {
          origin: 'https://api.example',
          segments: [],
          unauthenticated: 'pass',
          destinations: [],
          redirect: 'follow',
          parts: [],
        },
      ],
      scope: 'openid',
      resource: undefined,
      authorizationParams: {},
      leeway: 60_000,
      silentLogin: true,
      silentLoginTimeout: 10_000,
      rotationGrace: 0,
      storage: 'indexeddb',
      authUrls: {
        login: `${root}tokenward/login.html`,
        silent: `${root}tokenward/silent.html`,
        callback: `${root}tokenward/callback.html`,
        done: `${root}tokenward/done.html`,
        logout: `${root}tokenward/logout.html`,
      },
      root,
      logoutUrl: undefined,
      trace: undefined,
    })
  })
})

describe('a good configuration', () => {
  test('keeps the issuer to the letter, trailing slash and all', () => {
    expect(parse({ issuer: 'https://login.example/' }).issuer).toBe('https://login.example/')
    expect(parse({ issuer: 'https://login.example' }).issuer).toBe('https://login.example')
    expect(parse({ issuer: 'https://Login.example/A' }).issuer).toBe('https://Login.example/A')
  })

  test('takes given metadata whose members are bad where they are not used', () => {
    const bad = { revocation_endpoint: 'http://login.example/r', jwks_uri: '' }
    expect(parse({ issuer: { ...metadata, ...bad } }).metadata).toEqual({
      ...metadata,
      revocation_endpoint: undefined,
      jwks_uri: undefined,
    })
  })

  test('calls a redirectUri that is the origin a page, and does not lead to it', () => {
    const message = messageOf(() =>
      parse({ redirectUri: 'https://app.example' }, 'https://app.example/'),
    )
    expect(message).toMatch(/is a page of the app/)
    expect(message).not.toMatch(/as browsers write it/)
  })

  test('takes given metadata, and its issuer', () => {
    const { issuer, metadata: taken } = parse({ issuer: metadata })
    expect(issuer).toBe('https://login.example')
    expect(taken).toEqual(metadata)
  })

  test('takes metadata that says nothing of PKCE (AR-03)', () => {
    expect(parse({ issuer: { ...metadata, code_challenge_methods_supported: ['plain', 'S256'] } }))
    expect(messageOf(() => parse({ issuer: metadata }))).toBe('accepted')
  })

  test('resolves the paths of APIs on the origin of the worker', () => {
    const { apis } = parse({ apis: ['/api/', '/'] })
    expect(apis.map(({ origin, segments }) => [origin, segments])).toEqual([
      ['https://app.example', ['api']],
      ['https://app.example', []],
    ])
  })

  test('puts the APIs with the longest path first (IN-11)', () => {
    const { apis } = parse({ apis: ['/a/', '/a/b/c', '/', '/a/b/'] })
    expect(apis.map(({ segments }) => segments.join('/'))).toEqual(['a/b/c', 'a/b', 'a', ''])
  })

  test('merges the scopes of the APIs into its own, each once', () => {
    const apis = [
      { url: '/a/', scope: 'orders:read  profile' },
      { url: '/b/', scope: 'openid orders:read' },
      '/c/',
    ]
    expect(parse({ apis, scope: ' openid profile ' }).scope).toBe('openid profile orders:read')
  })

  test('takes one resource from any number of APIs', () => {
    const apis = ['/a/', '/b/'].map((url) => ({ url, resource: 'urn:a' }))
    expect(parse({ apis: [...apis, '/c/'] }).resource).toBe('urn:a')
  })

  test('takes the authPath and redirectUri that a site has already', () => {
    const { authUrls } = parse({ authPath: 'a-b/c_1/', redirectUri: `${root}signin-oidc` })
    expect(authUrls.login).toBe(`${root}a-b/c_1/login.html`)
    expect(authUrls.callback).toBe(`${root}signin-oidc`)
  })

  test('takes the limits of its numbers', () => {
    expect(parse({ leeway: 0 }).leeway).toBe(0)
    expect(parse({ leeway: 3600 }).leeway).toBe(3_600_000)
    expect(parse({ silentLoginTimeout: 1 }).silentLoginTimeout).toBe(1000)
    expect(parse({ silentLoginTimeout: 20 }).silentLoginTimeout).toBe(20_000)
  })

  test('may have no API at all', () => {
    expect(parse({ apis: [] }).apis).toEqual([])
  })
})

describe('http (IN-02)', () => {
  const local = (host: string, scope: string) => {
    const options = { issuer: `http://${host}`, apis: [`http://${host}/api/`] }
    return messageOf(() => parse(options, scope))
  }

  test.each(['localhost:3000', '127.0.0.1:3000', '127.1.2.3', '[::1]:3000', 'app.localhost:3000'])(
    'is allowed for %s when the worker runs on a loopback host',
    (host) => {
      expect(local(host, 'http://localhost:8080/')).toBe('accepted')
      expect(parse({ issuer: `http://${host}` }, 'http://127.0.0.1/').issuer).toBe(`http://${host}`)
      expect(local(host, root)).toMatch(/must use https/)
    },
  )

  test.each([
    ...['localhost.evil.example', 'notlocalhost', '127.0.0.1.evil.example', '128.0.0.1'],
    ...['0.0.0.0', '[::2]', '10.0.0.1', 'login.example', '192.168.0.1', '127-0-0-1.example'],
  ])('is refused for %s everywhere', (host) => {
    expect(local(host, 'http://localhost:8080/')).toMatch(/issuer must use https/)
  })
})
