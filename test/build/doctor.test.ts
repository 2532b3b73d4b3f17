// The doctor looks at the demo, with its real site, server and API, and at deployments that differ
// from it in one thing.
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PAGES } from '../../bin/auth-pages.mjs'
import { printReport } from '../../bin/doctor/report.mjs'
import { type DoctorOptions, diagnose } from '../../bin/doctor.mjs'
import { startServers } from '../../demo/servers.mjs'
import { build } from '../../esbuild.config.mjs'

let demo: Awaited<ReturnType<typeof startServers>>
let url: string

beforeAll(async () => {
  await build({ quiet: true, types: false })
  const ports = { app: 0, authorizationServer: 0, api: 0 }
  demo = await startServers({ ports, authorizationServer: {} })
  url = demo.url
})
afterAll(() => demo?.close())

/** The demo's server lets a client ask for these, and has no setting against it. */
const knownWarnings = ['client.response-modes']

type Fetch = typeof fetch
/** Answers in the place of the network, or changes what it answered; undefined: nothing to do. */
type Change = (url: URL, real: () => Promise<Response>, init: RequestInit) => unknown

const examine = async (changes: Change[] = [], options: Partial<DoctorOptions> = {}) => {
  const apis = [`${demo.api.url}/`, '/api/']
  const changed: Fetch = async (input, init = {}) => {
    const target = new URL(String(input))
    const real = () => fetch(input, init)
    for (const change of changes) {
      const response = await change(target, real, init)
      if (response instanceof Response) return response
    }
    return real()
  }
  // The demo stands for a site that is online.
  const findings = await diagnose({ url, apis, all: true, ...options }, changed)
  const at = (wanted: string) => findings.filter(({ level }) => level === wanted)
  const ids = (level: string) => [...new Set(at(level).map(({ id }) => id))]
  const words = findings.map(({ id, found }) => `${id}: ${found}`).join('\n')
  return { findings, failures: ids('failure'), warnings: ids('warning'), words }
}

const withHeaders = (response: Response, body: string | null, changes: Record<string, unknown>) => {
  const headers = new Headers(response.headers)
  headers.delete('content-encoding')
  headers.delete('content-length')
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) headers.delete(name)
    else headers.set(name, String(value))
  }
  return new Response(body, { status: response.status, headers })
}

/** The page of the app is at `/`; the API has something there too. */
const isAt = ({ pathname, origin }: URL, path: string) =>
  pathname === path && (path !== '/' || origin === demo.site.origin)

/** The headers of a path differ; `undefined` takes one away. */
const headers =
  (path: string, changes: Record<string, string | undefined>): Change =>
  async (target, real) => {
    if (!isAt(target, path)) return
    const response = await real()
    const body = await response.text()
    return withHeaders(response, body || null, changes)
  }

/** The text of a path differs. */
const text =
  (path: string, edit: (text: string) => string): Change =>
  async (target, real) => {
    if (!isAt(target, path)) return
    const response = await real()
    return withHeaders(response, edit(await response.text()), {})
  }

/** Something else answers at a path. */
const answer =
  (
    path: string,
    status: number,
    body: string | null = '',
    given: Record<string, string> = {},
  ): Change =>
  (target) =>
    isAt(target, path) ? new Response(body, { status, headers: given }) : undefined

const metadataPath = '/.well-known/openid-configuration'
const metadata = (edit: (metadata: Record<string, unknown>) => void): Change =>
  text(metadataPath, (body) => {
    const value = JSON.parse(body)
    edit(value)
    return JSON.stringify(value)
  })

/** The page's policy with one directive replaced, or taken away. */
const pagePolicy = (name: string, value?: string): Change => policyOf('/', name, value)
const policyOf =
  (path: string, name: string, value?: string): Change =>
  async (target, real) => {
    if (!isAt(target, path)) return
    const response = await real()
    const body = await response.text()
    const policy = (response.headers.get('content-security-policy') ?? '')
      .split(';')
      .map((part) => part.trim())
      .filter((part) => part.split(' ')[0] !== name)
    if (value !== undefined) policy.push(`${name} ${value}`)
    return withHeaders(response, body, { 'content-security-policy': policy.join('; ') })
  }

const callback = '/tokenward/callback.html'
const html = { 'content-type': 'text/html' }
const inert = {
  ...html,
  'content-security-policy':
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
}
/** The answer of the authorization endpoint, if it goes back to the redirect URI. */
const sentBack =
  (edit: (target: URL) => void): Change =>
  async ({ pathname }, real) => {
    if (pathname !== '/auth') return
    const response = await real()
    const location = response.headers.get('location')
    if (!location) return
    const target = new URL(location)
    edit(target)
    return withHeaders(response, null, { location: target.href })
  }
const preflight =
  (given: Record<string, string | undefined>): Change =>
  async ({ origin }, real, { method }) =>
    origin === demo.api.url && method === 'OPTIONS'
      ? withHeaders(await real(), null, given)
      : undefined

describe('a deployment as the docs have it', () => {
  test('has no failure: the demo (CF-09)', async () => {
    const { failures, warnings, findings } = await examine()
    expect(failures).toEqual([])
    expect(warnings).toEqual(knownWarnings)
    expect(findings.filter(({ level }) => level === 'pass').length).toBeGreaterThan(35)
  })

  test('has none in a folder of its site either: the Workbox demo (CF-09)', async () => {
    const { failures, warnings, words } = await examine([], { url: `${url}workbox/index.html` })
    expect(failures).toEqual([])
    expect(warnings).toEqual(knownWarnings)
    expect(words).toContain(`${url}workbox/tokenward/callback.html is registered`)
  })

  test('needs no options where the script of the worker has them as text', async () => {
    const { words, failures } = await examine([], { apis: undefined as never })
    expect(failures).toEqual([])
    expect(words).toContain(`issuer ${demo.authorizationServer.issuer} (read in ${url}env.js)`)
    expect(words).toContain(`clientId demo (read in ${url}sw.js)`)
    expect(words).toContain(`Only ${url}api/ can be read`)
  })

  test('may have the pages under names without .html, as some hosts do', async () => {
    const shorten: Change = ({ pathname, search }) =>
      pathname.startsWith('/tokenward/') && pathname.endsWith('.html')
        ? new Response(null, {
            status: 308,
            headers: { location: pathname.replace('.html', '') + search },
          })
        : undefined
    const short: Change = ({ pathname }) =>
      pathname.startsWith('/tokenward/')
        ? new Response('<p>Not finished', { headers: inert })
        : undefined
    expect((await examine([shorten, short])).failures).toEqual([])
  })

  test('may redirect the callback away, if nothing of the code is left', async () => {
    const away = answer(callback, 303, null, { location: '/?auth=no-worker#' })
    expect((await examine([away])).failures).toEqual([])
  })

  test('may have its policy in a meta element', async () => {
    const { issuer } = demo.authorizationServer
    const policy = [
      `worker-src ${url}sw.js; connect-src 'self' ${demo.api.url}; frame-src 'self' ${issuer}`,
      "script-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    ].join('; ')
    const inMeta: Change = async (target, real) => {
      if (!isAt(target, '/')) return
      const response = await real()
      const meta = `<meta content="${policy}" http-equiv='Content-Security-Policy'>`
      return withHeaders(response, meta + (await response.text()), {
        'content-security-policy': undefined,
      })
    }
    const { failures, warnings, words } = await examine([inMeta])
    expect(failures).toEqual([])
    // Framing can be forbidden in a header only.
    expect(warnings).toEqual(['page.strict', ...knownWarnings])
    expect(words).toContain("It lacks frame-ancestors 'none' (as a header).")
  })
})

type Row = [title: string, id: string, words: string, changes: () => Change[]]

const broken: Row[] = [
  ['no page', 'site.answer', 'answers 500', () => [answer('/', 500)]],
  [
    'a site behind a password',
    'site.answer',
    'answers 401',
    () => [answer('/', 401, 'who are you?', html)],
  ],

  ['no callback page', 'callback.body', 'answers 404', () => [answer(callback, 404)]],
  [
    'the app in place of the callback page',
    'callback.body',
    'is answered with the page of the app',
    () => [
      async ({ pathname }) =>
        pathname === callback
          ? new Response(await (await fetch(url)).text(), { headers: inert })
          : undefined,
    ],
  ],
  [
    'a callback page with a script',
    'callback.body',
    'is not inert: it has a script',
    () => [text(callback, (body) => `${body}<script>parent.postMessage(location.href)</script>`)],
  ],
  [
    'a callback page with an image',
    'callback.body',
    'something it loads or sends',
    () => [text(callback, (body) => `${body}<img src=https://metrics.example/>`)],
  ],
  [
    'a callback page with an inline handler',
    'callback.body',
    'an inline handler',
    () => [text(callback, (body) => `${body}<p onclick=alert()>`)],
  ],
  [
    'a callback page that is text',
    'callback.body',
    'is text/plain, not HTML',
    () => [headers(callback, { 'content-type': 'text/plain' })],
  ],
  [
    'a callback that takes the code along',
    'callback.body',
    'redirects to /?code=',
    () => [
      ({ pathname, search }) =>
        pathname === callback
          ? new Response(null, { status: 302, headers: { location: `/${search}#` } })
          : undefined,
    ],
  ],
  [
    'a callback whose redirect leaves the fragment',
    'callback.body',
    'without a #',
    () => [answer(callback, 303, null, { location: '/?auth=no-worker' })],
  ],
  [
    'a callback page without sandbox',
    'callback.sandbox',
    'missing',
    () => [policyOf(callback, 'sandbox')],
  ],
  [
    'a callback page with holes in its sandbox',
    'callback.sandbox',
    'with exceptions',
    () => [policyOf(callback, 'sandbox', 'allow-scripts allow-same-origin')],
  ],
  [
    'a callback page that may run scripts',
    'callback.default-src',
    "not 'none'",
    () => [policyOf(callback, 'default-src', "'self'")],
  ],
  [
    'a callback page that may be framed',
    'callback.frame-ancestors',
    "not 'none'",
    () => [
      async (target, real, init) => {
        const response = await policyOf(callback, 'frame-ancestors')(target, real, init)
        if (!(response instanceof Response)) return
        return withHeaders(response, await response.text(), { 'x-frame-options': undefined })
      },
    ],
  ],
  [
    'a callback page that tells the app its URL',
    'callback.referrer',
    'missing',
    () => [
      async ({ pathname }, real) => {
        if (pathname !== callback) return
        const response = await real()
        const body = (await response.text()).replace(/<meta name="referrer"[^>]*>/, '')
        return withHeaders(response, body, { 'referrer-policy': undefined })
      },
    ],
  ],
  [
    'a callback page that is cached',
    'callback.cache',
    'max-age=600',
    () => [headers(callback, { 'cache-control': 'max-age=600' })],
  ],
  [
    'the app in place of another auth page',
    'auth-pages.body',
    '/tokenward/silent.html is not inert',
    () => [answer('/tokenward/silent.html', 200, '<script src=/app.js></script>', html)],
  ],

  ['no worker', 'worker.found', 'answers 404', () => [answer('/sw.js', 404)]],
  [
    'a page in place of the worker',
    'worker.found',
    'text/html, a page',
    () => [answer('/sw.js', 200, '<!doctype html>', html)],
  ],
  [
    'a worker behind a redirect',
    'worker.found',
    'redirects to',
    () => [answer('/sw.js', 302, null, { location: '/assets/sw.js' })],
  ],
  [
    'a worker that imports what is not there',
    'worker.imports',
    'demo-trace.js, which answers 404',
    () => [answer('/demo-trace.js', 404)],
  ],
  [
    'a worker whose folder does not reach the scope, by its header',
    'worker.scope',
    'does not cover the scope /',
    () => [headers('/sw.js', { 'service-worker-allowed': '/app/' })],
  ],
  [
    'a worker that may not reach the server',
    'worker.csp',
    'connect-src of its policy lacks',
    () => [policyOf('/sw.js', 'connect-src', `'self' ${demo.api.url}`)],
  ],
  [
    'a worker that may not reach an API',
    'worker.csp',
    'connect-src of its policy lacks',
    () => [policyOf('/sw.js', 'connect-src', `'self' ${demo.authorizationServer.issuer}`)],
  ],
  [
    'a worker that may not import its library',
    'worker.csp',
    'script-src of its policy lacks',
    () => [policyOf('/sw.js', 'script-src', `https://cdn.example`)],
  ],

  [
    'a page that may not register the worker',
    'page.worker-src',
    'does not allow',
    () => [pagePolicy('worker-src', `${url}other.js`)],
  ],
  [
    'a page that may not frame the server',
    'page.frame-src',
    'lacks http',
    () => [pagePolicy('frame-src', "'self'")],
  ],
  [
    'a page that may not frame its own site',
    'page.frame-src',
    "lacks 'self'",
    () => [pagePolicy('frame-src', demo.authorizationServer.issuer)],
  ],
  [
    'a page that may not reach an API',
    'page.connect-src',
    'connect-src does not allow',
    () => [pagePolicy('connect-src', "'self'")],
  ],
  [
    'Trusted Types without our policy',
    'page.trusted-types',
    'trusted-types does not list tokenward',
    () => [pagePolicy('trusted-types', 'app')],
  ],

  [
    'a server without metadata',
    'server.metadata',
    'is not JSON',
    () => [
      answer(metadataPath, 200, '<html>', html),
      answer('/.well-known/oauth-authorization-server', 404),
    ],
  ],
  [
    'a server whose metadata the worker may not read',
    'server.metadata',
    'sends no Access-Control-Allow-Origin',
    () => [headers(metadataPath, { 'access-control-allow-origin': undefined })],
  ],
  [
    'metadata in the place of RFC 8414 only',
    'server.metadata',
    'The metadata is at',
    () => [
      answer(metadataPath, 404),
      ({ pathname, origin }, _real, init) =>
        pathname === '/.well-known/oauth-authorization-server'
          ? fetch(origin + metadataPath, init)
          : undefined,
    ],
  ],
  [
    'an issuer with another last slash',
    'server.issuer',
    'the option issuer says',
    () => [
      metadata((value) => {
        value['issuer'] += '/'
      }),
    ],
  ],
  [
    'an endpoint on http',
    'server.endpoints',
    'revocation_endpoint: http://login.example',
    () => [
      metadata((value) => {
        value['revocation_endpoint'] = 'http://login.example/revoke'
      }),
    ],
  ],
  [
    'a server without S256',
    'server.pkce',
    'PKCE with plain only',
    () => [
      metadata((value) => {
        value['code_challenge_methods_supported'] = ['plain']
      }),
    ],
  ],
  [
    'a server without the code flow',
    'server.code-flow',
    'response_type=code',
    () => [
      metadata((value) => {
        value['response_types_supported'] = ['id_token token']
      }),
    ],
  ],
  [
    'a token endpoint without CORS on errors',
    'server.token-endpoint',
    'answers 400 and sends no Access-Control-Allow-Origin',
    () => [headers('/token', { 'access-control-allow-origin': undefined })],
  ],
  [
    'a token endpoint for another origin',
    'server.token-endpoint',
    'Access-Control-Allow-Origin: https://other.example',
    () => [headers('/token', { 'access-control-allow-origin': 'https://other.example' })],
  ],
  [
    'a token endpoint that redirects',
    'server.token-endpoint',
    'redirects to https://login.example/token',
    () => [answer('/token', 307, null, { location: 'https://login.example/token' })],
  ],
  [
    'a client with a secret',
    'client.public',
    'invalid_client',
    () => [
      answer('/token', 401, '{"error":"invalid_client"}', { 'access-control-allow-origin': '*' }),
    ],
  ],
  [
    'a redirect URI that is not registered',
    'client.redirect-uri',
    'shows a page (400, “Oops”, “invalid_redirect_uri”)',
    () => [answer('/auth', 400, '<title>Oops</title>invalid_redirect_uri', html)],
  ],
  [
    'a server that goes elsewhere with the answer',
    'client.redirect-uri',
    'redirects to https://other.example/',
    () => [answer('/auth', 302, null, { location: 'https://other.example/' })],
  ],
  [
    'a client without the code flow',
    'client.redirect-uri',
    'unauthorized_client',
    () => [sentBack(({ searchParams }) => searchParams.set('error', 'unauthorized_client'))],
  ],
  [
    'answers that name another server',
    'client.iss',
    'https://evil.example',
    () => [sentBack(({ searchParams }) => searchParams.set('iss', 'https://evil.example'))],
  ],

  [
    'an API whose preflight allows *',
    'api.preflight',
    'does not cover Authorization',
    () => [preflight({ 'access-control-allow-headers': '*' })],
  ],
  [
    'an API whose preflight forgets Authorization',
    'api.preflight',
    'does not allow the header Authorization',
    () => [preflight({ 'access-control-allow-headers': 'content-type' })],
  ],
  [
    'an API that wants a token for the preflight',
    'api.preflight',
    'answers 401',
    () => [
      ({ origin }, _real, { method }) =>
        origin === demo.api.url && method === 'OPTIONS'
          ? new Response('', { status: 401 })
          : undefined,
    ],
  ],
  [
    'an API that is down',
    'api.answer',
    'does not answer: nothing listens there',
    () => [
      ({ pathname, origin }) => {
        if (`${origin}/` !== url || pathname !== '/api/') return
        throw Object.assign(new TypeError('fetch failed'), { cause: { code: 'ECONNREFUSED' } })
      },
    ],
  ],
]

describe('a broken deployment gets its failure and no other', () => {
  test.each(broken)('%s: %s (CF-09)', async (_title, id, words, changes) => {
    const { failures, findings } = await examine(changes())
    expect(failures).toEqual([id])
    const finding = findings.find(({ level }) => level === 'failure')
    expect(finding?.found).toContain(words)
    expect(finding?.why).toMatch(/.{15,}/)
    expect(finding?.fix).toMatch(/.{8,}/)
  })
})

describe('a site on this machine', () => {
  const none = Object.fromEntries(Object.keys(inert).map((name) => [name, undefined]))
  const changes = [
    headers('/', { 'content-security-policy': undefined }),
    headers(callback, { ...none, ...html }),
    headers('/tokenward/logout.html', { 'x-frame-options': undefined }),
    headers('/sw.js', { 'content-security-policy': undefined }),
    answer('/auth', 400, '<title>Oops</title>', html),
  ]
  const here = { all: false }

  test('has headers for production in one line, and an unregistered redirect URI first', async () => {
    const { findings, failures, warnings } = await examine(changes, here)
    expect(failures).toEqual(['client.redirect-uri'])
    expect(warnings).toEqual([])
    expect(findings[0]?.id).toBe('client.redirect-uri')
    const folded = findings.filter(({ id }) => id === 'site.production')
    expect(folded).toHaveLength(1)
    expect(folded[0]?.found).toContain('--all')
    for (const id of ['callback.sandbox', 'auth-pages.headers', 'worker.csp', 'page.csp']) {
      expect(folded[0]?.found).toContain(id)
    }
    const all = await examine(changes)
    expect(all.failures[0]).toBe('client.redirect-uri')
    expect(all.failures).toContain('callback.sandbox')
    expect(all.findings.some(({ id }) => id === 'site.production')).toBe(false)
  })

  test('still hears of a policy that breaks it', async () => {
    const { failures } = await examine([pagePolicy('connect-src', "'self'")], here)
    expect(failures).toEqual(['page.connect-src'])
    const worker = await examine([policyOf('/sw.js', 'connect-src', "'self'")], here)
    expect(worker.failures).toEqual(['worker.csp'])
    // Browsers compare the script, and not its headers.
    expect(worker.findings[0]?.fix).toContain('change a byte of the script')
  })

  test('has no such line where nothing is left out', async () => {
    const { findings } = await examine([], here)
    expect(findings).toEqual((await examine()).findings)
  })
})

describe('the APIs of the app', () => {
  /** The worker's script with this list. */
  const listing = (list: string) =>
    text('/sw.js', (body) => body.replace("[env.api, '/api/']", list))
  const coverage = async (list: string, ...apis: string[]) => {
    const { findings } = await examine([listing(list)], { apis })
    return findings.filter(({ id }) => id === 'api.covered')
  }

  test('are covered by the entries of the script, or the missing entry is named', async () => {
    const api = demo.api.url
    expect(await coverage(`['${api}/v1/', '/api/']`, `${api}/v1/orders?x=1`, '/api')).toMatchObject(
      [
        { level: 'pass', found: expect.stringContaining(`${api}/v1/ of apis covers`) },
        { level: 'pass' },
      ],
    )
    const [finding] = await coverage(`['${api}/v1/', '/api/']`, `${api}/v10/`)
    expect(finding).toMatchObject({ level: 'failure' })
    expect(finding?.found).toContain(`does not cover ${api}/v10/`)
    expect(finding?.fix).toContain(`Add '${api}/'`)
    expect(await coverage(`['http://localhost:1/']`, `${api}/`)).toMatchObject([
      { level: 'failure', found: expect.stringContaining('It has http://localhost:1/.') },
    ])
    expect(await coverage(`[{ url: '/api/' }]`, '/graphql')).toMatchObject([
      { level: 'failure', fix: expect.stringContaining("Add '/graphql/'") },
    ])
  })

  test('are not blamed where the script computes its list', async () => {
    expect(await coverage('[env.api]', `${demo.api.url}/`)).toMatchObject([{ level: 'note' }])
  })
})

const dubious: Row[] = [
  [
    'a framing defence that has lost its second layer',
    'callback.x-frame-options',
    'missing',
    () => [headers(callback, { 'x-frame-options': undefined })],
  ],
  [
    'windows that keep their opener',
    'callback.opener',
    'missing',
    () => [headers(callback, { 'cross-origin-opener-policy': undefined })],
  ],
  [
    'another auth page without headers',
    'auth-pages.headers',
    'logout.html: no X-Frame-Options',
    () => [headers('/tokenward/logout.html', { 'x-frame-options': undefined })],
  ],
  [
    'a worker without a policy',
    'worker.csp',
    'no Content-Security-Policy of its own',
    () => [headers('/sw.js', { 'content-security-policy': undefined })],
  ],
  [
    'a worker that may send anything anywhere',
    'worker.csp',
    'send requests anywhere',
    () => [policyOf('/sw.js', 'connect-src', '*')],
  ],
  [
    'a worker that may evaluate text',
    'worker.eval',
    'evaluate text',
    () => [policyOf('/sw.js', 'script-src', "'self' 'unsafe-eval'")],
  ],
  [
    'a worker that may have more than it needs',
    'worker.scope',
    'is not needed',
    () => [headers('/sw.js', { 'service-worker-allowed': '/' })],
  ],
  [
    'a worker that is cached for long',
    'worker.cache',
    '/sw.js: public, max-age=31536000',
    () => [headers('/sw.js', { 'cache-control': 'public, max-age=31536000' })],
  ],
  [
    'a library that is cached for long',
    'worker.cache',
    '/tokenward-worker.js: max-age=86400',
    () => [headers('/tokenward-worker.js', { 'cache-control': 'max-age=86400' })],
  ],
  [
    'a worker without nosniff',
    'worker.nosniff',
    'nosniff',
    () => [headers('/sw.js', { 'x-content-type-options': undefined })],
  ],
  [
    'a library of another version',
    'worker.library',
    'tokenward 0.0.1',
    () => [
      text('/tokenward-worker.js', (body) => body.replace(/tokenward \S+/, 'tokenward 0.0.1')),
    ],
  ],
  [
    'navigation preload',
    'worker.preload',
    'turns navigation preload on',
    () => [text('/sw.js', (body) => `${body}\nregistration.navigationPreload.enable()`)],
  ],
  [
    'a router that keeps the install event to itself',
    'worker.install',
    'does not mention the install event',
    () => [
      text('/sw.js', (body) =>
        body.replace(
          '.listen({ claim: true })',
          "\naddEventListener('fetch', (event) => worker.handle(event))",
        ),
      ),
    ],
  ],
  [
    'routes that race the network',
    'worker.preload',
    'race the network',
    () => [
      text(
        '/sw.js',
        (body) => `${body}\nevent.addRoutes({ source: 'race-network-and-fetch-handler' })`,
      ),
    ],
  ],
  [
    'a page without a policy',
    'page.csp',
    'no Content-Security-Policy',
    () => [headers('/', { 'content-security-policy': undefined })],
  ],
  ['any worker', 'page.worker-src', 'more than the worker', () => [pagePolicy('worker-src', '*')]],
  [
    'no word on workers',
    'page.worker-src',
    'There is no worker-src',
    () => [pagePolicy('worker-src')],
  ],
  [
    'a page that may reach the token endpoint',
    'page.connect-src',
    'lets the page reach the token endpoint',
    () => [pagePolicy('connect-src', '*')],
  ],
  [
    'a page that may be framed',
    'page.strict',
    "frame-ancestors 'none'",
    () => [pagePolicy('frame-ancestors')],
  ],
  [
    'a page with inline scripts',
    'page.strict',
    'unsafe-inline',
    () => [pagePolicy('script-src', "'self' 'unsafe-inline'")],
  ],
  [
    'a server that is silent about PKCE',
    'server.pkce',
    'does not say',
    () => [
      metadata((value) => {
        delete value['code_challenge_methods_supported']
      }),
    ],
  ],
  [
    'a server that does not name itself',
    'server.iss',
    'does not promise',
    () => [
      metadata((value) => {
        delete value['authorization_response_iss_parameter_supported']
      }),
    ],
  ],
  [
    'a server with web_message',
    'server.web-message',
    'offers response_mode=web_message',
    () => [
      metadata((value) => {
        value['response_modes_supported'] = ['query', 'web_message']
      }),
    ],
  ],
  [
    'a revocation endpoint without CORS',
    'server.revocation',
    'no Access-Control-Allow-Origin',
    () => [headers('/revoke', { 'access-control-allow-origin': undefined })],
  ],
  [
    'a second redirect URI',
    'client.second-redirect-uri',
    'is registered as a redirect URI too',
    () => [
      ({ pathname, searchParams }) =>
        pathname === '/auth' && searchParams.get('redirect_uri') === url
          ? new Response(null, {
              status: 303,
              headers: { location: `${url}?error=login_required` },
            })
          : undefined,
    ],
  ],
  [
    'a client that need not use PKCE',
    'client.pkce',
    'does not refuse a request without PKCE',
    () => [
      ({ pathname, searchParams }) => {
        if (pathname !== '/auth' || searchParams.has('code_challenge')) return
        const location = `${searchParams.get('redirect_uri')}?error=login_required`
        return new Response(null, { status: 303, headers: { location } })
      },
    ],
  ],
  [
    'an error that users will meet',
    'client.redirect-uri',
    'comes back with invalid_scope',
    () => [sentBack(({ searchParams }) => searchParams.set('error', 'invalid_scope'))],
  ],
  [
    'an isolated page, and a server that may not be embedded',
    'client.embedding',
    'no Cross-Origin-Resource-Policy',
    () => [headers('/', { 'cross-origin-embedder-policy': 'require-corp' })],
  ],
  [
    'a 401 that the worker may not read',
    'api.answer',
    'unlike to the preflight',
    () => [
      async ({ origin }, real, { method }) =>
        origin === demo.api.url && method !== 'OPTIONS'
          ? withHeaders(await real(), '', { 'access-control-allow-origin': undefined })
          : undefined,
    ],
  ],
  [
    'a challenge that scripts may not see',
    'api.answer',
    'www-authenticate',
    () => [
      async ({ origin }, real, { method }) =>
        origin === demo.api.url && method !== 'OPTIONS'
          ? withHeaders(await real(), '', { 'access-control-expose-headers': undefined })
          : undefined,
    ],
  ],
]

describe('a dubious deployment gets its warning, and no failure', () => {
  test.each(dubious)('%s: %s (CF-09)', async (_title, id, words, changes) => {
    const { failures, warnings, words: all } = await examine(changes())
    expect(failures).toEqual([])
    expect(warnings.filter((warning) => !knownWarnings.includes(warning))).toEqual(
      knownWarnings.includes(id) ? [] : [id],
    )
    expect(all).toContain(words)
  })

  test('a policy that is only reported breaks nothing yet', async () => {
    const { failures, warnings } = await examine([
      headers('/', {
        'content-security-policy': undefined,
        'content-security-policy-report-only':
          "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
      }),
    ])
    expect(failures).toEqual([])
    expect(warnings).toEqual(
      expect.arrayContaining(['page.csp', 'page.worker-src', 'page.frame-src', 'page.connect-src']),
    )
  })
})

describe('a site with https', () => {
  const app = 'https://app.example.com'
  /** The demo under another name. */
  const elsewhere =
    (given: Record<string, string>, plain?: Response): Change =>
    async ({ origin, href }, _real, init) => {
      if (origin === 'http://app.example.com') {
        if (plain) return plain.clone()
        throw Object.assign(new TypeError('fetch failed'), { cause: { code: 'ECONNREFUSED' } })
      }
      if (origin !== app) return
      const response = await fetch(href.replace(`${app}/`, url), init)
      const body = (await response.text()) || null
      return withHeaders(response, body, { 'content-security-policy': undefined, ...given })
    }
  const levels = async (change: Change) => {
    const { findings } = await examine([change], { url: app, apis: [] })
    return Object.fromEntries(findings.map(({ id, level }) => [id, level]))
  }
  const hsts = { 'strict-transport-security': 'max-age=31536000' }

  test('is well with HSTS and nothing on http', async () => {
    expect(await levels(elsewhere(hsts))).toMatchObject({
      'site.https': 'pass',
      'site.hsts': 'pass',
    })
  })

  test('is well with a redirect to https', async () => {
    const redirect = new Response(null, { status: 301, headers: { location: `${app}/` } })
    expect(await levels(elsewhere(hsts, redirect))).toMatchObject({ 'site.https': 'pass' })
  })

  test('is warned about the app on http, and about a missing HSTS', async () => {
    expect(await levels(elsewhere({}, new Response('app')))).toMatchObject({
      'site.https': 'warning',
      'site.hsts': 'warning',
    })
  })

  /** The site with this library for its worker. */
  const serving =
    (library: string): Change =>
    async (target, real, init) => {
      const response = await elsewhere(hsts)(target, real, init)
      const isLibrary = target.pathname === '/tokenward-worker.js' && response instanceof Response
      return isLibrary ? withHeaders(response, library, {}) : response
    }

  test('is warned about the development build, which is right on localhost', async () => {
    const library = readFileSync('dist/development/worker.classic.js', 'utf8')
    const local = await examine([text('/tokenward-worker.js', () => library)])
    expect(local).toMatchObject({ failures: [], warnings: knownWarnings })
    expect(local.words).toContain('/tokenward-worker.js is the development build')

    const online = await examine([serving(library)], { url: app, apis: [] })
    expect(online.warnings).toContain('worker.development')
    expect(online.words).toContain('/tokenward-worker.js has the development build')
    const production = serving(readFileSync('dist/worker.classic.js', 'utf8'))
    const { warnings } = await examine([production], { url: app, apis: [] })
    expect(warnings).not.toContain('worker.development')
  })

  test('learns that a server on another site means no silent login', async () => {
    const { findings } = await examine([elsewhere(hsts)], { url: app, apis: [] })
    const finding = findings.find(({ id }) => id === 'server.same-site')
    expect(finding).toMatchObject({ level: 'warning' })
    expect(finding?.found).toContain('another site, localhost, than the app, example.com')
    expect(finding?.why).toContain('login_required')
  })
})

describe('what comes from outside', () => {
  test('cannot make it crash: every answer garbage, one at a time', async () => {
    const paths = ['/', '/sw.js', '/env.js', callback, metadataPath, '/auth', '/token', '/api/']
    const garbage = '\u0000\u001b[2J<<<{"issuer":[{}],importScripts(\'http://[\')apis:[[[{url:'
    for (const path of paths) {
      for (const given of [html, { 'content-type': 'text/javascript', location: 'http://[' }]) {
        const { findings } = await examine([answer(path, 200, garbage, given)])
        expect(findings.length).toBeGreaterThan(0)
        expect(JSON.stringify(findings)).not.toContain('\\u001b')
      }
    }
    const nulls = metadata((value) => {
      for (const name of Object.keys(value)) value[name] = name === 'issuer' ? null : [{}]
    })
    expect((await examine([nulls])).failures).toContain('server.endpoints')
  })

  test.each([
    '<',
    '\n',
    ' ',
    'a',
    '/*\n',
    '<meta "',
    "import '",
    'import\n',
    'issuer:"',
    'apis:[',
    '(',
  ])('cannot keep it busy: a megabyte of %j', async (piece) => {
    const body = piece.repeat(1_000_000 / piece.length)
    const { failures } = await examine([
      answer('/', 200, body, html),
      answer('/sw.js', 200, body, { 'content-type': 'text/javascript' }),
      answer(callback, 200, body, html),
      answer(metadataPath, 200, body),
      answer('/auth', 200, body, html),
    ])
    expect(failures).toContain('worker.library')
  })

  test.each([
    ['ENOTFOUND', 'DNS does not know this host'],
    ['CERT_HAS_EXPIRED', 'its certificate has expired'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'its certificate is for another host'],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'TLS failed'],
    ['HPE_INVALID_CONSTANT', 'does not speak HTTP'],
  ])('is explained: %s', async (code, words) => {
    const fail: Change = () => {
      throw Object.assign(new TypeError('fetch failed'), { cause: { code } })
    }
    const { failures, words: all } = await examine([fail])
    expect(failures).toEqual(['site.answer'])
    expect(all).toContain(words)
  })

  test('has a time limit', async () => {
    const timeout: Change = () => {
      throw new DOMException('', 'TimeoutError')
    }
    expect((await examine([timeout])).words).toContain('no answer within 10 s')
    let signal: AbortSignal | null | undefined
    await examine([
      (_url, _real, init) => {
        signal ??= init.signal
      },
    ])
    expect(signal).toBeInstanceOf(AbortSignal)
  })

  test('a certificate that nobody knows is explained, by the real network stack', async () => {
    const server = createTlsServer({
      key: readFileSync('test/support/localhost-key.pem'),
      cert: readFileSync('test/support/localhost-cert.pem'),
    })
    await new Promise<void>((done) => server.listen(0, 'localhost', done))
    const { port } = server.address() as AddressInfo
    try {
      const findings = await diagnose({ url: `https://localhost:${port}/` })
      expect(findings).toMatchObject([{ id: 'site.answer', level: 'failure' }])
      expect(findings[0]?.found).toContain('its certificate is self-signed')
    } finally {
      server.close()
    }
  })

  test('a header for the site goes nowhere else', async () => {
    const seen: Record<string, boolean> = {}
    const look: Change = ({ origin }, _real, init) => {
      seen[origin] ||= new Headers(init.headers).has('x-staging')
    }
    await examine([look], { headers: { 'x-staging': 'secret' } })
    expect(seen).toEqual({
      [demo.site.origin]: true,
      [demo.authorizationServer.issuer]: false,
      [demo.api.url]: false,
    })
  })
})

describe('options', () => {
  test('are asked for where the script does not tell', async () => {
    const silent = text('/env.js', (body) => body.replace(/"issuer"/, '"server"'))
    const { failures, words } = await examine([silent])
    expect(failures).toEqual(['server.given'])
    expect(words).toContain('issuer does not stand in the worker')
    const { issuer } = demo.authorizationServer
    expect((await examine([silent], { issuer })).failures).toEqual([])
  })

  test('are worth nothing where the worker is not ours, or cannot have the scope', async () => {
    const { issuer } = demo.authorizationServer
    const given = { issuer, clientId: 'demo' }
    const foreign = text('/sw.js', () => 'addEventListener("fetch", () => {})')
    expect((await examine([foreign], given)).failures).toEqual(['worker.library'])
    const below = await examine([], { ...given, worker: '/workbox/sw.js' })
    expect(below.failures).toEqual(['worker.scope', 'page.worker-src'])
    expect(below.words).toContain('A worker in /workbox/ cannot have the scope /.')
  })

  test('win over what the script says', async () => {
    const { failures, words } = await examine([], { clientId: 'nobody' })
    expect(failures).toEqual(['client.redirect-uri', 'client.public'])
    expect(words).toContain('clientId nobody (given)')
  })

  test('say where worker and callback are', async () => {
    const moved = [
      answer('/sw.js', 404),
      text('/other.js', () => ''),
      (async ({ pathname }) =>
        pathname === '/worker/other.js'
          ? withHeaders(await fetch(`${url}sw.js`), await (await fetch(`${url}sw.js`)).text(), {
              'service-worker-allowed': '/',
            })
          : undefined) satisfies Change,
    ]
    const worker = `${url}worker/other.js`
    const { failures } = await examine([...moved, pagePolicy('worker-src', worker)], { worker })
    expect(failures).toEqual([])
    const redirectUri = `${url}auth/cb`
    const { failures: others } = await examine([], { redirectUri })
    expect(others).toEqual(['client.redirect-uri', 'callback.body'])
  })

  test('turn a failure that is known into a warning', async () => {
    const { failures, warnings } = await examine([headers(callback, { 'cache-control': 'x' })], {
      accepted: ['callback.cache'],
    })
    expect(failures).toEqual([])
    expect(warnings).toContain('callback.cache')
  })
})

describe('the command', () => {
  const security = () => readFileSync('docs/security.md', 'utf8')
  const run = (...args: string[]) =>
    new Promise<{ status: unknown; stdout: string; stderr: string }>((done) => {
      const command = [resolve('bin/tokenward.mjs'), 'doctor', ...args]
      execFile(process.execPath, command, (error, stdout, stderr) => {
        done({ status: error ? error.code : 0, stdout, stderr })
      })
    })

  test('prints one line for each finding, and ends with 0 where nothing fails', async () => {
    const { status, stdout, stderr } = await run(url, '--api', `${demo.api.url}/`, '--api', '/api/')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(/^Callback page$/m)
    expect(stdout).toMatch(/^ {2}ok {7}X-Frame-Options: DENY$/m)
    expect(stdout).toMatch(/^ {2}warning {2}The client may ask for .*\[client\.response-modes\]$/m)
    expect(stdout).toMatch(/^ {11}Fix: Allow query alone/m)
    expect(stdout).toMatch(/^0 failures, 1 warning, \d+ passed\.$/m)
  })

  test('ends with 1 where something fails, and has JSON for machines', async () => {
    const { status, stdout } = await run(url, '--client-id', 'nobody', '--json')
    expect(status).toBe(1)
    const findings = JSON.parse(stdout)
    expect(Object.keys(findings[0])).toEqual(['id', 'level', 'found', 'why', 'fix'])
    expect(findings).toContainEqual(expect.objectContaining({ id: 'client.public' }))
  })

  test.each([
    [[], 'One site at a time'],
    [['app.example.com'], 'needs a URL that starts with https://'],
    [['ftp://app.example.com'], 'needs a URL that starts with https://'],
    [['https://a.example', 'https://b.example'], 'One site at a time'],
    [['https://a.example', '--issuer', 'login'], '--issuer login: needs a URL'],
    [['https://a.example', '--header', 'nope'], '--header nope: needs the form'],
    [['https://a.example', '--nope'], "Unknown option '--nope'"],
    [['https://a.example', '--auth-path', '../up'], '--auth-path ../up: needs a folder below'],
  ])('ends with 2 for %j', async (args, words) => {
    const { status, stderr } = await run(...args)
    expect(status).toBe(2)
    expect(stderr).toContain(words)
  })

  // `UPDATE_DOCS=1` writes it, and what comes next.
  test('explains itself, in the docs too', async () => {
    const { status, stdout } = await run('--help')
    expect(status).toBe(0)
    const block = /(doctor --help<\/code><\/summary>\n\n```\n)([\s\S]*?)(```\n)/
    if (process.env['UPDATE_DOCS']) {
      const written = security().replace(block, (_all, start, _old, end) => start + stdout + end)
      writeFileSync('docs/security.md', written)
    }
    expect(block.exec(security())?.[2]).toBe(stdout)
  })

  test('prints what the docs show', async () => {
    const servers = [demo.site.origin, demo.authorizationServer.issuer, demo.api.url]
    let text = JSON.stringify((await examine()).findings)
    for (const [index, origin] of servers.entries()) {
      text = text.replaceAll(origin, `http://localhost:42${index}0`)
    }
    const { version } = JSON.parse(readFileSync('package.json', 'utf8'))
    const title = `tokenward ${version} doctor: http://localhost:4200/`
    const shown = `${title}\n\n${printReport(JSON.parse(text))}\n`
    const block = /(<!-- doctor: .* -->\n```\n\$ npx .*\n)([\s\S]*?)(```\n<!-- \/doctor -->)/
    if (process.env['UPDATE_DOCS']) {
      const written = security().replace(block, (_all, start, _old, end) => start + shown + end)
      writeFileSync('docs/security.md', written)
    }
    expect(block.exec(security())?.[2]).toBe(shown)
  })
})

test('the doctor looks at every page that init copies', async () => {
  const asked = new Set<string>()
  await examine([({ pathname }) => void asked.add(pathname)])
  for (const page of PAGES) expect(asked).toContain(`/tokenward/${page}.html`)
})
