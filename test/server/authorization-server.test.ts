import { inspect } from 'node:util'
import { describe, expect, test } from 'vitest'
import type { TokenError } from '../../src/shared/errors.js'
import { jwks } from '../../sw/server/jwks.js'
import { randomId } from '../../sw/values/random-id.js'
import { json, jwt } from '../support/fake-authorization-server.js'
import { createUnitWorld, type WorldOptions } from '../support/worker-parts.js'

const hour = 3_600_000

const createWorld = (options: WorldOptions = {}) => {
  const world = createUnitWorld(options)
  const { authorizationServer: as, store } = world.createWorker()
  const state = randomId()
  const secrets = as.newSecrets()

  /** Goes to the server and back, and redeems what comes. */
  const signIn = async ({
    params = {},
    change,
  }: {
    params?: Record<string, string>
    change?: (url: URL) => void
  } = {}) => {
    const back = world.server.authorize(await as.authorizationUrl({ state, secrets, params }))
    change?.(back)
    return await as.redeem({ params: back.searchParams, state, secrets, asked: params })
  }

  return { ...world, as, store, state, secrets, signIn }
}

const failure = async (work: Promise<unknown>): Promise<TokenError> => {
  const error = await work.then(
    () => {
      throw new Error('It did not fail.')
    },
    (cause: TokenError) => cause,
  )
  expect(error.name).toBe('TokenError')
  return error
}

const headersOf = (init: RequestInit) => new Headers(init.headers)

describe('the authorization request', () => {
  test('asks for a code with PKCE S256, state and nonce (AR-01, AR-02, AR-05)', async () => {
    const { as, config, state, secrets } = createWorld({
      options: { scope: 'openid offline_access', authorizationParams: { audience: 'urn:api' } },
    })
    const url = new URL(await as.authorizationUrl({ state, secrets, params: { prompt: 'login' } }))
    expect(url.origin + url.pathname).toBe('https://login.example/authorize')
    expect(Object.fromEntries(url.searchParams)).toEqual({
      response_type: 'code',
      client_id: config.clientId,
      redirect_uri: 'https://app.example/tokenward/callback.html',
      scope: 'openid offline_access',
      state,
      nonce: secrets.nonce,
      code_challenge: expect.stringMatching(/^[\w-]{43}$/),
      code_challenge_method: 'S256',
      audience: 'urn:api',
      prompt: 'login',
    })
    expect(url.href).not.toContain(secrets.verifier)
  })

  test('has new secrets each time, of 256 bits (AR-02, AR-05)', () => {
    const { as } = createWorld()
    const all = Array.from({ length: 1000 }, () => as.newSecrets())
    const values = all.flatMap(({ nonce, verifier }) => [nonce, verifier])
    expect(new Set(values).size).toBe(2000)
    for (const value of values) expect(value).toMatch(/^[\w-]{43,128}$/)
  })

  test('cannot be bent by parameters that are the protocol’s (AR-13)', async () => {
    const { as, state, secrets } = createWorld({
      options: { authorizationParams: { prompt: 'login' } },
    })
    const params = { prompt: 'none', state: 'x', client_id: 'x', redirect_uri: 'x', nonce: 'x' }
    const url = new URL(
      await as.authorizationUrl({ state, secrets, params: { ...params, scope: 'x' } }),
    )
    expect(url.searchParams.getAll('state')).toEqual([state])
    expect(url.searchParams.get('nonce')).toBe(secrets.nonce)
    expect(url.searchParams.get('scope')).toBe('openid')
    expect(url.searchParams.get('prompt')).toBe('none')
    expect(url.search).not.toMatch(/=x(&|$)/)
  })

  test('keeps the query of the endpoint, and names the resource of the APIs', async () => {
    const { as, state, secrets } = createWorld({
      options: { apis: [{ url: '/api/', resource: 'urn:api' }] },
      server: { metadata: { authorization_endpoint: 'https://login.example/authorize?p=b2c' } },
    })
    const { searchParams } = new URL(await as.authorizationUrl({ state, secrets, params: {} }))
    expect(searchParams.get('p')).toBe('b2c')
    expect(searchParams.get('resource')).toBe('urn:api')
  })

  test('has no nonce where no ID token is asked for', async () => {
    const { as, state, secrets } = createWorld({ options: { scope: 'read' } })
    expect(await as.authorizationUrl({ state, secrets, params: {} })).not.toContain('nonce')
  })
})

describe('a request for more than a sign-in (AR-16)', () => {
  const asked = {
    max_age: '60',
    acr_values: 'urn:example:mfa',
    claims: '{"id_token":{"acr":{"essential":true}}}',
    ui_locales: 'de en',
  }

  test('goes out as the page asks for it, and as the worker does', async () => {
    const { as, state, secrets } = createWorld()
    const url = new URL(await as.authorizationUrl({ state, secrets, params: asked }))
    expect(Object.fromEntries(url.searchParams)).toMatchObject(asked)
    const always = createWorld({ options: { authorizationParams: asked } })
    const other = new URL(await always.as.authorizationUrl({ state, secrets, params: {} }))
    expect(Object.fromEntries(other.searchParams)).toMatchObject(asked)
    // Each of them once, whoever asks.
    const both = new URL(
      await always.as.authorizationUrl({ state, secrets, params: { max_age: '0' } }),
    )
    expect(both.searchParams.getAll('max_age')).toEqual(['0'])
  })

  test('names the resource and the scopes of the APIs, at the token endpoint too', async () => {
    const { as, server, state, secrets, signIn } = createWorld({
      options: {
        apis: [
          { url: '/a/', resource: 'urn:api', scope: 'a:read' },
          { url: '/b/', resource: 'urn:api', scope: 'b:read a:read' },
        ],
      },
    })
    const { searchParams } = new URL(await as.authorizationUrl({ state, secrets, params: {} }))
    expect(searchParams.getAll('resource')).toEqual(['urn:api'])
    expect(searchParams.get('scope')).toBe('openid a:read b:read')
    await signIn()
    expect(server.tokenRequests()[0]?.params.getAll('resource')).toEqual(['urn:api'])
  })
})

describe('a server that wants requests pushed (AR-15)', () => {
  const pushing = {
    server: {
      metadata: {
        require_pushed_authorization_requests: true,
        pushed_authorization_request_endpoint: 'https://login.example/par',
      },
    },
  }

  test('gets them, and the browser carries a reference alone, a new one each time', async () => {
    const { as, server, config, state, secrets } = createWorld(pushing)
    const url = await as.authorizationUrl({ state, secrets, params: { prompt: 'login' } })
    const { searchParams } = new URL(url)
    expect(Object.fromEntries(searchParams)).toEqual({
      client_id: config.clientId,
      request_uri: expect.stringMatching(/^urn:/),
    })
    const [, { init, params } = { init: {}, params: undefined }] = server.requests
    expect(init).toMatchObject({ method: 'POST', credentials: 'omit', redirect: 'error' })
    expect(Object.fromEntries(params ?? [])).toMatchObject({
      response_type: 'code',
      client_id: config.clientId,
      redirect_uri: 'https://app.example/tokenward/callback.html',
      state,
      nonce: secrets.nonce,
      code_challenge_method: 'S256',
      prompt: 'login',
    })
    expect(params?.has('code_verifier')).toBe(false)
    expect(await as.authorizationUrl({ state, secrets, params: {} })).not.toBe(url)
    const back = server.authorize(url)
    expect(await as.redeem({ params: back.searchParams, state, secrets })).toHaveProperty(
      'subject',
      'alice',
    )
  })

  test.each<[string, () => Response | Promise<Response>, string]>([
    ['refuses', () => json({ error: 'invalid_scope' }, 400), 'invalid_scope'],
    ['sends no reference', () => json({}, 201), 'invalid_token_response'],
    ['sends tokens', () => json({ access_token: 'a' }), 'invalid_token_response'],
    ['sends HTML', () => new Response('<html>', { status: 201 }), 'invalid_token_response'],
    [
      'cannot be reached',
      () => Promise.reject(new TypeError('Failed to fetch')),
      'token_endpoint_unreachable',
    ],
  ])('and then %s is not sent a plain one instead', async (_title, answer, code) => {
    const { server, state, secrets, createWorker } = createWorld(pushing)
    const { authorizationServer } = createWorker({
      fetch: async (input, init) =>
        String(input).endsWith('/par') ? await answer() : await server.fetch(input, init),
    })
    const error = await failure(
      authorizationServer.authorizationUrl({ state, secrets, params: {} }),
    )
    expect(error.code).toBe(code)
  })

  test('but does not need it, gets plain ones', async () => {
    const metadata = { pushed_authorization_request_endpoint: 'https://login.example/par' }
    const { as, state, secrets } = createWorld({ server: { metadata } })
    expect(await as.authorizationUrl({ state, secrets, params: {} })).toContain('code_challenge=')
  })
})

describe('every request to the server', () => {
  test('is a form without cookies, cache, redirect or referrer, with a time limit (TK-01)', async () => {
    const { as, server, signIn } = createWorld()
    await signIn()
    await as.refresh(server.refreshToken()!)
    await as.revoke(server.refreshToken()!)
    expect(server.requests.map(({ url }) => url)).toEqual([
      'https://login.example/.well-known/openid-configuration',
      'https://login.example/token',
      'https://login.example/token',
      'https://login.example/revoke',
    ])
    for (const { init } of server.requests) {
      expect(init).toMatchObject({
        mode: 'cors',
        credentials: 'omit',
        cache: 'no-store',
        redirect: 'error',
        referrerPolicy: 'no-referrer',
      })
      expect(init.signal).toBeInstanceOf(AbortSignal)
    }
    const [, ...posts] = server.requests
    for (const { init, url } of posts) {
      expect(init.method).toBe('POST')
      expect(new Request(url, init).headers.get('content-type')).toMatch(
        /^application\/x-www-form-urlencoded/,
      )
      expect(headersOf(init).has('authorization')).toBe(false)
      expect(new URL(url).search).toBe('')
    }
  })

  test('of a code grant carries what was sent before, and no secret of a client (CB-10)', async () => {
    const { server, config, secrets, signIn } = createWorld()
    await signIn()
    expect(Object.fromEntries(server.tokenRequests()[0]!.params)).toEqual({
      grant_type: 'authorization_code',
      client_id: config.clientId,
      code: expect.stringContaining('code-'),
      code_verifier: secrets.verifier,
      redirect_uri: 'https://app.example/tokenward/callback.html',
    })
  })

  test('of a refresh carries the token and the client, and the resource if there is one', async () => {
    const { as, server, config, signIn } = createWorld({
      options: { apis: [{ url: '/api/', resource: 'urn:api' }] },
    })
    await signIn()
    const refreshToken = server.refreshToken()!
    await as.refresh(refreshToken)
    expect(Object.fromEntries(server.tokenRequests()[1]!.params)).toEqual({
      grant_type: 'refresh_token',
      client_id: config.clientId,
      refresh_token: refreshToken,
      resource: 'urn:api',
    })
  })

  test('that gets no answer is given up after 15 s, and aborted (TK-01)', async () => {
    const { as, browser, server, signIn } = createWorld()
    await signIn()
    let aborted = false
    server.answers.push(({ init }) => {
      init.signal?.addEventListener('abort', () => {
        aborted = true
      })
      return new Promise(() => {})
    })
    const answer = as.refresh('refresh-token')
    await browser.pass(14_999)
    expect(aborted).toBe(false)
    await browser.pass(1)
    expect(aborted).toBe(true)
    expect(await answer).toMatchObject({ kind: 'unknown', error: { code: 'timeout' } })
    expect(browser.timers()).toBe(0)
  })

  test('whose answer stops half-way is given up after 15 s too (TK-01)', async () => {
    const { as, browser, server, signIn } = createWorld()
    await signIn()
    const headers = { 'content-type': 'application/json' }
    const stalled = () =>
      new ReadableStream({ start: (body) => body.enqueue(new TextEncoder().encode('{"access')) })
    server.answers.push(() => new Response(stalled(), { headers }))
    const answer = as.refresh('refresh-token')
    await browser.pass(15_000)
    expect(await answer).toMatchObject({ kind: 'unknown', error: { code: 'timeout' } })
  })
})

describe('the metadata', () => {
  test('is fetched once, and then known', async () => {
    const { as, server, state, secrets } = createWorld()
    await as.authorizationUrl({ state, secrets, params: {} })
    await as.authorizationUrl({ state, secrets, params: {} })
    expect(server.requests).toHaveLength(1)
  })

  test('is not fetched at all where it was given', async () => {
    const { server } = createWorld()
    const given = createWorld({ options: { issuer: server.metadata } })
    await given.as.authorizationUrl({ ...given, params: {} })
    expect(given.server.requests).toEqual([])
  })

  test('is kept for a day over restarts of the worker, then fetched again (TK-14)', async () => {
    const { as, browser, server, state, secrets, createWorker } = createWorld()
    const ask = (each = createWorker().authorizationServer) =>
      each.authorizationUrl({ state, secrets, params: { prompt: 'none' } })
    await ask(as)
    await browser.pass(24 * hour - 1)
    await ask()
    expect(server.requests).toHaveLength(1)
    await browser.pass(1)
    await ask()
    expect(server.requests).toHaveLength(2)
  })

  describe('that a script has taken something off', () => {
    const createSpoilt = async (...names: string[]) => {
      const metadata = { authorization_response_iss_parameter_supported: true }
      const world = createWorld({ server: { metadata } })
      const { as, store, state, secrets, server, createWorker } = world
      await as.authorizationUrl({ state, secrets, params: {} })
      const { metadata: stored } = (await store.readMetadata()) as { metadata: object }
      const left = Object.entries(stored).filter(([name]) => !names.includes(name))
      await store.writeMetadata(Object.fromEntries(left))
      server.requests.length = 0
      const discoveries = () => server.requests.filter(({ url }) => url.includes('well-known'))
      return { ...world, next: () => createWorker().authorizationServer, discoveries }
    }

    test('still revokes and ends the session at the server at a sign-out', async () => {
      const { next, server, discoveries } = await createSpoilt(
        'revocation_endpoint',
        'end_session_endpoint',
      )
      const worker = next()
      const [url] = await Promise.all([worker.logoutUrl('s'), worker.revoke('refresh-token')])
      expect(url).toContain(`${server.issuer}/`)
      expect(server.revoked).toEqual(['refresh-token'])
      // Both ask for it once, and what they got is on the disk for the next worker.
      expect(discoveries()).toHaveLength(1)
      await worker.logoutUrl('s')
      expect(discoveries()).toHaveLength(1)
    })

    test('still demands the issuer in the answer to the next sign-in', async () => {
      const { next, state, secrets, server } = await createSpoilt(
        'authorization_response_iss_parameter_supported',
      )
      const back = server.authorize(await next().authorizationUrl({ state, secrets, params: {} }))
      back.searchParams.delete('iss')
      const redeemed = next().redeem({ params: back.searchParams, state, secrets, asked: {} })
      expect((await failure(redeemed)).code).toBe('invalid_callback')
    })

    test('is what there is while the server cannot be asked, and that takes 5 s at most', async () => {
      const { createWorker, server, browser } = await createSpoilt()
      const offline = async () => {
        throw new TypeError('Failed to fetch')
      }
      const { authorizationServer: away } = createWorker({ fetch: offline })
      expect(await away.logoutUrl('s')).toContain(server.issuer)
      const { authorizationServer: slow } = createWorker({ fetch: () => new Promise(() => {}) })
      const url = slow.logoutUrl('s')
      await browser.pass(5_000)
      expect(await url).toContain(server.issuer)
      expect(browser.timers()).toBe(0)
    })
  })

  test('that is old is better than none while the server is down', async () => {
    const { as, browser, server, state, secrets, createWorker } = createWorld()
    await as.authorizationUrl({ state, secrets, params: {} })
    await browser.pass(48 * hour)
    const fetch = async () => {
      throw new TypeError('Failed to fetch')
    }
    const { authorizationServer } = createWorker({ fetch })
    expect(await authorizationServer.authorizationUrl({ state, secrets, params: {} })).toContain(
      server.issuer,
    )
  })

  test('is fetched again where the clock was set back', async () => {
    const { as, browser, server, state, secrets, createWorker } = createWorld()
    await as.authorizationUrl({ state, secrets, params: {} })
    browser.setClock(-1000)
    await createWorker().authorizationServer.authorizationUrl({ state, secrets, params: {} })
    expect(server.requests).toHaveLength(2)
  })

  test.each([
    ['https://login.example/', 'a slash more'],
    ['https://LOGIN.example', 'another case'],
    ['https://evil.example', 'another host'],
    ['http://login.example', 'another scheme'],
    [undefined, 'none'],
  ])('of issuer %s is refused: %s (TK-14)', async (issuer, _title) => {
    const { as, state, secrets, store } = createWorld({ server: { metadata: { issuer: issuer! } } })
    const error = await failure(as.authorizationUrl({ state, secrets, params: {} }))
    expect(error.code).toBe('invalid_configuration')
    expect(error.message).toMatch(/the same to the last slash/)
    expect(await store.readMetadata()).toBeUndefined()
  })

  test.each([
    ['a token endpoint with http', { token_endpoint: 'http://login.example/token' }],
    ['no token endpoint', { token_endpoint: undefined }],
    ['a token endpoint that is a list', { token_endpoint: ['https://login.example/t'] as never }],
    ['a logout endpoint that is a script', { end_session_endpoint: 'javascript:alert(1)' }],
    [
      'an endpoint for pushed requests with http, if it wants them',
      {
        require_pushed_authorization_requests: true,
        pushed_authorization_request_endpoint: 'http://login.example/par',
      },
    ],
    ['PKCE without S256', { code_challenge_methods_supported: ['plain'] }],
    ['nonsense for PKCE', { code_challenge_methods_supported: 5 as never }],
  ])('with %s is refused', async (_title, metadata) => {
    const { as, state, secrets } = createWorld({ server: { metadata } })
    const error = await failure(as.authorizationUrl({ state, secrets, params: {} }))
    expect(error.code).toBe('invalid_configuration')
    expect(await as.refresh('refresh-token')).toMatchObject({ kind: 'unavailable' })
  })

  test.each([
    [
      '404',
      () => new Response('not found', { status: 404 }),
      /answered 404.*give the option issuer/,
    ],
    ['HTML', () => new Response('<html>'), /metadata that is not JSON/],
    ['broken JSON', () => new Response('{"issuer":'), /metadata that is not JSON/],
    ['more than 256 KiB', () => json({ issuer: 'x'.repeat(262_144) }), /too long/],
  ])('that is %s says so', async (_title, answer, message) => {
    const { state, secrets, createWorker } = createWorld()
    const { authorizationServer } = createWorker({ fetch: async () => answer() })
    const error = await failure(
      authorizationServer.authorizationUrl({ state, secrets, params: {} }),
    )
    expect(error.message).toMatch(message)
    expect(error.transient).toBe(true)
  })

  test('that cannot be reached is named without its query (ER-02)', async () => {
    const { server, signIn } = createWorld({
      server: { metadata: { token_endpoint: 'https://login.example/token?policy=b2c' } },
    })
    server.answers.push(() => Promise.reject(new TypeError('Failed to fetch')))
    const { code, message } = await failure(signIn())
    expect(code).toBe('token_endpoint_unreachable')
    expect(message).toContain('https://login.example/token.')
  })

  test('that cannot be reached says what may be in the way', async () => {
    const { browser, state, secrets, createWorker } = createWorld()
    const fetch = async () => {
      throw new TypeError('Failed to fetch')
    }
    const ask = () =>
      createWorker({ fetch }).authorizationServer.authorizationUrl({ state, secrets, params: {} })
    const error = await failure(ask())
    expect(error.code).toBe('metadata_unreachable')
    expect(error.message).toMatch(/CORS.*Content-Security-Policy.*ad blocker/)
    browser.online = false
    expect((await failure(ask())).code).toBe('offline')
  })

  describe('whose members are bad, but not used', () => {
    const bad = [null, '', 'http://login.example/x', 5, 'nonsense', {}]
    test.each([
      ...['revocation_endpoint', 'jwks_uri', 'pushed_authorization_request_endpoint'],
      ...['userinfo_endpoint', 'introspection_endpoint', 'mtls_endpoint_aliases'],
    ])('keep nobody out: %s', async (name) => {
      for (const value of bad) {
        const metadata = { [name]: value as never }
        const { as, server, signIn } = createWorld({ server: { metadata } })
        expect(await signIn()).toHaveProperty('subject', 'alice')
        await as.revoke('r')
        expect(await as.logoutUrl('s')).toContain('https://login.example/logout?')
        for (const { url } of server.requests) expect(url).toMatch(/^https:/)
      }
    })

    test.each([null, ''])('keep nobody out: end_session_endpoint %j', async (value) => {
      const metadata = { end_session_endpoint: value as never }
      const { as, signIn } = createWorld({ server: { metadata } })
      expect(await signIn()).toHaveProperty('subject', 'alice')
      expect(await as.logoutUrl('s')).toBeUndefined()
    })

    test('keep nobody out where the app has its own logoutUrl', async () => {
      const metadata = { end_session_endpoint: 'http://login.example/logout' }
      const options = { logoutUrl: () => 'https://login.example/bye' }
      const { as, signIn } = createWorld({ server: { metadata }, options })
      expect(await signIn()).toHaveProperty('subject', 'alice')
      expect(await as.logoutUrl('s')).toBe('https://login.example/bye')
    })

    test('are refused by name once they are: the keys with idTokenSignature', async () => {
      const metadata = { jwks_uri: 'http://login.example/keys' }
      const options = { idTokenSignature: jwks() }
      const error = await failure(createWorld({ server: { metadata }, options }).signIn())
      expect(error.code).toBe('invalid_configuration')
      expect(error.message).toContain('jwks_uri must use https')
    })
  })

  test('of another name says that neither will do for both, and what will', async () => {
    const metadata = { issuer: 'https://identity.oraclecloud.com/' }
    const { message } = await failure(createWorld({ server: { metadata } }).signIn())
    expect(message).toMatch(/metadata by hand/)
  })

  test('may name a userinfo endpoint: it is never asked (TK-13)', async () => {
    const userinfo = 'https://login.example/userinfo'
    const { as, server, signIn } = createWorld({
      server: { metadata: { userinfo_endpoint: userinfo } },
    })
    await signIn()
    await as.refresh(server.refreshToken() as string)
    expect(server.requests.map(({ url }) => url)).not.toContain(userinfo)
  })

  test('names the endpoints that never get a token, and userinfo is none of them', async () => {
    const { as, state, secrets } = createWorld({
      server: {
        metadata: {
          userinfo_endpoint: 'https://login.example/userinfo',
          introspection_endpoint: 'https://login.example/introspect',
        },
      },
    })
    expect(as.protocolEndpoints()).toEqual([])
    await as.authorizationUrl({ state, secrets, params: {} })
    const names = ['authorize', 'token', 'revoke', 'logout', 'jwks', 'introspect']
    expect([...as.protocolEndpoints()].sort()).toEqual(
      names.map((name) => `https://login.example/${name}`).sort(),
    )
  })
})

describe('signing in', () => {
  test('brings tokens, and the claims without those of the protocol (ST-13)', async () => {
    const protocol = {
      s_hash: 'x',
      sid: 'x',
      azp: undefined,
      jti: 'x',
      auth_time: 1,
      amr: ['pwd'],
    }
    const { browser, server, config, signIn } = createWorld({
      server: { claims: { name: 'Ada', email: 'ada@example.com', ...protocol } },
    })
    const answer = await signIn()
    expect(answer).toMatchObject({
      claims: { sub: 'alice', name: 'Ada', email: 'ada@example.com' },
      subject: 'alice',
      issuedAt: browser.now(),
      expiresAt: browser.now() + hour,
      refreshToken: server.refreshToken(),
      accessToken: expect.stringContaining('access-token-1'),
      idToken: expect.any(String),
    })
    expect(Object.keys(answer.claims).sort()).toEqual(['email', 'name', 'sub'])
    expect(config.scope).toBe('openid')
  })

  test('works without an ID token where none was asked for', async () => {
    const { signIn } = createWorld({
      options: { scope: 'read' },
      server: { tokens: { id_token: undefined } },
    })
    expect(await signIn()).toMatchObject({ claims: {}, subject: undefined })
  })

  test.each<[unknown, number | undefined]>([
    [3600, 3600],
    ['3600', 3600],
    [3599.5, 3599.5],
    [5_184_000, 5_184_000],
    [1, 1],
    [undefined, undefined],
    [null, undefined],
    ['', undefined],
    ['soon', undefined],
    [{}, undefined],
    [0, 1],
    [-5, 1],
    ['-1', 1],
    [1e12, 31_536_000],
    ['1e999', 31_536_000],
  ])('with expires_in %j lets the token live for %s s (TK-05)', async (expiresIn, seconds) => {
    const { browser, signIn } = createWorld({ server: { expiresIn } })
    const { expiresAt } = await signIn()
    expect(expiresAt).toBe(seconds && browser.now() + seconds * 1000)
  })

  test.each([
    ['an ID token that is no JWT', { id_token: 'x.y.z' }],
    ['an ID token that is empty', { id_token: '' }],
    ['an encrypted ID token', { id_token: 'a.b.c.d.e' }],
    ['no ID token (TK-06)', { id_token: undefined }],
  ])('with %s fails (TK-03)', async (_title, tokens) => {
    const { signIn } = createWorld({ server: { tokens } })
    expect((await failure(signIn())).code).toBe('invalid_id_token')
  })

  test.each<[string, Record<string, unknown>]>([
    ['refresh_token', { refresh_token: 5 }],
    ['scope', { scope: 5 }],
    ['refresh_token', { refresh_token: [], id_token: 'x.y.z' }],
  ])('with a wrong %s fails, and not for its ID token (TK-03)', async (name, tokens) => {
    const { server, as, signIn } = createWorld({ server: { tokens } })
    const error = await failure(signIn())
    expect(error.code).toBe('invalid_token_response')
    expect(error.message).toContain(`"${name}"`)
    // A refresh says the same.
    server.setGrant({ clientId: 'c', subject: 'alice', refreshToken: 'r' })
    expect(await as.refresh('r')).toMatchObject({ error: { message: error.message } })
  })

  test('with a list of scopes works', async () => {
    const { signIn } = createWorld({ server: { tokens: { scope: ['openid', 'orders'] } } })
    expect(await signIn()).toHaveProperty('scope', 'openid orders')
  })

  test.each(['DPoP', 'mac', '', undefined, 5])('with token type %j fails (TK-03)', async (type) => {
    const { signIn } = createWorld({ server: { tokens: { token_type: type } } })
    const error = await failure(signIn())
    expect(error.code).toBe('invalid_token_response')
    expect(error.message).toContain('not Bearer')
  })

  test.each(['bearer', 'BEARER'])('with token type %s works (TK-03)', async (type) => {
    const { signIn } = createWorld({ server: { tokens: { token_type: type } } })
    expect(await signIn()).toHaveProperty('accessToken')
  })

  test.each<[string, () => Response, string]>([
    [
      'HTML',
      () => new Response('<html>', { headers: { 'content-type': 'text/html' } }),
      'is not JSON',
    ],
    [
      'text',
      () => new Response('{}', { headers: { 'content-type': 'text/plain' } }),
      'is not JSON',
    ],
    ['nothing', () => new Response(null, { status: 204 }), 'is 204'],
    [
      'broken JSON',
      () => new Response('{', { headers: { 'content-type': 'application/json' } }),
      'JSON',
    ],
    ['a JSON string', () => json('tokens'), 'is not JSON'],
    ['a JSON list', () => json([]), 'not Bearer'],
    ['more than 256 KiB', () => json({ access_token: 'x'.repeat(262_144) }), 'is too long'],
    ['500', () => new Response('down', { status: 500 }), 'is 500'],
    ['201', () => json({ access_token: 'x' }, 201), 'is 201'],
  ])('that is answered with %s fails (TK-04)', async (_title, answer, message) => {
    const { server, signIn } = createWorld()
    server.answers.push(answer)
    const error = await failure(signIn())
    expect(error.code).toBe('invalid_token_response')
    expect(error.message).toContain(message)
  })

  test('that is refused passes the code of the server on, and a harmless description (ER-02)', async () => {
    const { server, signIn } = createWorld()
    const description = `<script>\u0007\n${'x'.repeat(500)}`
    server.answers.push(() => json({ error: 'invalid_grant', error_description: description }, 400))
    const error = await failure(signIn())
    expect(error.code).toBe('invalid_grant')
    expect(error.message.length).toBeLessThan(300)
    expect(error.message).not.toMatch(/[^\x20-\x7e]/)
  })

  test.each<[string, Record<string, unknown>]>([
    ['a scope that is a number', { scope: 5 }],
    ['an ID token of another', { id_token: jwt({ iss: 'https://evil.example' }) }],
    ['an ID token that is no JSON', { id_token: 'x.secret-claims.z' }],
    ['a type of token we have not', { token_type: 'mac' }],
  ])(
    'that fails for %s has no token in its error, however deep (ER-02)',
    async (_title, tokens) => {
      const { server, signIn } = createWorld({ server: { tokens } })
      const seen = inspect(await failure(signIn()), { depth: Infinity, showHidden: true })
      const secrets = [...server.secrets, 'secret-claims'].filter((secret) => secret.length > 8)
      for (const secret of secrets) expect(seen).not.toContain(secret)
    },
  )

  test('that is refused in unknown words is a server_error (ER-02)', async () => {
    const { server, signIn } = createWorld()
    server.answers.push(() => json({ error: `new_code${'x'.repeat(500)}` }, 400))
    const error = await failure(signIn())
    expect(error.code).toBe('server_error')
    expect(error.message.length).toBeLessThan(300)
  })
})

describe('the answer at the callback', () => {
  test.each<[string, (url: URL) => void]>([
    ['another iss (CB-09)', (url) => url.searchParams.set('iss', 'https://evil.example')],
    [
      'an iss with a slash more (CB-09)',
      (url) => url.searchParams.set('iss', 'https://login.example/'),
    ],
    ['no iss where the server sends it (CB-09)', (url) => url.searchParams.delete('iss')],
    ['another state', (url) => url.searchParams.set('state', 'x')],
    ['a second state', (url) => url.searchParams.append('state', 'x')],
    ['a response (JARM)', (url) => url.searchParams.set('response', 'x')],
    ['an ID token (CB-03)', (url) => url.searchParams.set('id_token', 'x')],
  ])('with %s is refused, and no code is sent', async (_title, change) => {
    const { server, signIn } = createWorld()
    expect((await failure(signIn({ change }))).code).toBe('invalid_callback')
    expect(server.tokenRequests()).toEqual([])
  })

  test('with an iss that was not announced is compared all the same (CB-09)', async () => {
    const metadata = { authorization_response_iss_parameter_supported: undefined }
    const { server, signIn } = createWorld({ server: { metadata } })
    const change = (url: URL) => url.searchParams.set('iss', 'https://evil.example')
    expect((await failure(signIn({ change }))).code).toBe('invalid_callback')
    expect(server.tokenRequests()).toEqual([])
    await expect(signIn()).resolves.toBeDefined()
  })

  test('that is an error is one, if it is from the right server (CB-09)', async () => {
    const { signIn } = createWorld()
    const deny = (url: URL) => {
      url.searchParams.delete('code')
      url.searchParams.set('error', 'access_denied')
      url.searchParams.set('error_description', 'No <b>way</b>\n')
    }
    const error = await failure(signIn({ change: deny }))
    expect(error.code).toBe('access_denied')
    const forge = (url: URL) => {
      deny(url)
      url.searchParams.set('iss', 'https://evil.example')
    }
    expect((await failure(signIn({ change: forge }))).code).toBe('invalid_callback')
  })
})

describe('the ID token of a sign-in (TK-06)', () => {
  const failing = async (
    claims: object,
    more: WorldOptions['server'] = {},
    params?: Record<string, string>,
  ) => {
    const { signIn } = createWorld({ server: { ...more, claims: { ...claims } } })
    return (await failure(signIn({ params }))).code
  }

  test.each<[string, object]>([
    ['another iss', { iss: 'https://evil.example' }],
    ['an iss with a slash more', { iss: 'https://login.example/' }],
    ['no iss', { iss: undefined }],
    ['another aud', { aud: 'other' }],
    ['a list of other aud', { aud: ['other'] }],
    ['no aud', { aud: undefined }],
    ['an empty sub', { sub: '' }],
    ['no sub', { sub: undefined }],
    ['a sub that is a number', { sub: 5 }],
    ['no exp', { exp: undefined }],
    ['an exp that is a string', { exp: '9999999999' }],
    ['no iat', { iat: undefined }],
    ['no sub', { sub: undefined }],
    ['no aud', { aud: undefined }],
    ['an exp in the past', { exp: 1_000_000_000 }],
    ['another nonce', { nonce: 'x' }],
    ['no nonce although one was sent', { nonce: undefined }],
    ['an nbf in the future', { nbf: 9_999_999_999 }],
  ])('is refused with %s', async (_title, claims) => {
    expect(await failing(claims)).toBe('invalid_id_token')
  })

  test.each<[string, (clientId: string) => object]>([
    ['several aud and no azp', (clientId) => ({ aud: [clientId, 'other'] })],
    ['several aud and another azp', (clientId) => ({ aud: [clientId, 'other'], azp: 'other' })],
    ['another azp', (clientId) => ({ aud: clientId, azp: 'other' })],
  ])('is refused with %s', async (_title, claims) => {
    const { server, config, signIn } = createWorld()
    server.options.claims = claims(config.clientId) as Record<string, unknown>
    expect((await failure(signIn())).code).toBe('invalid_id_token')
  })

  test('is taken with a list of one aud, or with several and our azp', async () => {
    const { server, config, signIn } = createWorld()
    server.options.claims = { aud: [config.clientId] }
    expect(await signIn()).toHaveProperty('subject', 'alice')
    server.options.claims = { aud: [config.clientId, 'other'], azp: config.clientId }
    expect(await signIn()).toHaveProperty('subject', 'alice')
  })

  describe('with a further audience', () => {
    const idcs = 'https://identity.oraclecloud.com/'
    const judge = async (claims: (clientId: string) => object, trustedAudiences?: string[]) => {
      const world = createWorld({ options: { ...(trustedAudiences && { trustedAudiences }) } })
      const { server, config, as } = world
      server.options.claims = claims(config.clientId) as Record<string, unknown>
      const signedIn = await world.signIn().then(
        ({ subject, idToken }) => [subject, idToken?.split('.').length],
        ({ code, message }) => [code, message],
      )
      const idToken = server.idToken(config.clientId, 'alice')
      const { kind } = await as.readIdToken(idToken, { subject: 'alice', accessToken: 'a' })
      return [...signedIn, kind]
    }

    test('that the app trusts is taken', async () => {
      const aud = (clientId: string) => ({ aud: [clientId, idcs] })
      expect(await judge(aud, [idcs])).toEqual(['alice', 3, 'same'])
      expect(await judge(aud, ['other', idcs])).toEqual(['alice', 3, 'same'])
    })

    test('that the app does not trust is refused, with the option that would', async () => {
      const aud = (clientId: string) => ({ aud: [clientId, idcs, 'other'] })
      const refused = ['invalid_id_token', expect.stringContaining('trustedAudiences'), 'unusable']
      expect(await judge(aud)).toEqual(refused)
      expect(await judge(aud, [idcs])).toEqual(refused)
    })

    test('is refused without ours, or with another azp', async () => {
      expect((await judge(() => ({ aud: [idcs] }), [idcs]))[0]).toBe('invalid_id_token')
      const aud = (clientId: string) => ({ aud: [clientId, idcs], azp: idcs })
      expect((await judge(aud, [idcs]))[0]).toBe('invalid_id_token')
    })
  })

  test.each<[string, object]>([
    ['"sub"', { sub: 5 }],
    ['"auth_time"', { auth_time: '1700000000' }],
    ['"exp"', { exp: '9999999999' }],
    ['"aud"', { aud: 'other' }],
  ])('that is refused for its %s says so', async (name, claims) => {
    const { signIn } = createWorld({ server: { claims: { ...claims } } })
    expect((await failure(signIn())).message).toContain(name)
  })

  test('that is signed with something else than the metadata say names the member', async () => {
    const { signIn } = createWorld({ server: { header: { alg: 'ES256' } } })
    const { message } = await failure(signIn())
    expect(message).toContain('id_token_signing_alg_values_supported')
  })

  test('is taken once the server lists what it signs with, however new the metadata are', async () => {
    const metadata = { id_token_signing_alg_values_supported: ['RS256'] }
    const { server, signIn } = createWorld({ server: { metadata } })
    await signIn()
    server.options.header = { alg: 'ES256' }
    Object.assign(server.metadata, { id_token_signing_alg_values_supported: ['RS256', 'ES256'] })
    expect(await signIn()).toHaveProperty('subject', 'alice')
    const asked = server.requests.filter(({ url }) => url.includes('/.well-known/'))
    expect(asked).toHaveLength(2)
  })

  test.each(['none', 'HS256', 'RS1', undefined])('is refused with alg %s', async (alg) => {
    expect(await failing({}, { header: { alg } })).toBe('invalid_id_token')
  })

  test.each(['none', 'HS256'])(
    'is refused with alg %s although the server lists it',
    async (alg) => {
      const metadata = { id_token_signing_alg_values_supported: [alg, 'RS256'] }
      expect(await failing({}, { header: { alg }, metadata })).toBe('invalid_id_token')
    },
  )

  test('is taken with an alg that the server lists', async () => {
    const metadata = { id_token_signing_alg_values_supported: ['HS256', 'ES256'] }
    const { signIn } = createWorld({ server: { header: { alg: 'ES256' }, metadata } })
    expect(await signIn()).toHaveProperty('subject', 'alice')
  })

  test('must have an auth_time that keeps to max_age', async () => {
    const now = Math.floor(Date.now() / 1000)
    expect(await failing({ auth_time: now - 120 }, {}, { max_age: '60' })).toBe('invalid_id_token')
    expect(await failing({}, {}, { max_age: '60' })).toBe('invalid_id_token')
    const { signIn } = createWorld({ server: { claims: { auth_time: now - 30 } } })
    expect(await signIn({ params: { max_age: '60' } })).toHaveProperty('subject', 'alice')
  })

  test.each([1, -1, 23, -23])('costs nothing on a clock that is %s h wrong', async (hours) => {
    const { browser, signIn } = createWorld({ server: { now: () => Date.now() + hours * hour } })
    const { expiresAt, issuedAt } = await signIn()
    // What counts is how long the token lives, on the clock of this device.
    expect([issuedAt, expiresAt]).toEqual([browser.now(), browser.now() + hour])
  })

  describe('that is as old as its exp', () => {
    /** The ID token says `told`, the server's `Date` says `date`, the app's own site `site`. h */
    const judge = async ({ told, date, site }: { told: number; date?: number; site?: number }) => {
      const world = createUnitWorld({ server: { now: () => Date.now() + told * hour } })
      const { server, createWorker, config } = world
      const at = (hours: number | undefined): Record<string, string> =>
        hours === undefined ? {} : { date: new Date(Date.now() + hours * hour).toUTCString() }
      const { authorizationServer: as } = createWorker({
        fetch: async (input, init) => {
          const url = String(input)
          if (url === config.authUrls.done) {
            expect(init).toMatchObject({ method: 'HEAD', credentials: 'omit', cache: 'no-store' })
            // A cache has kept it for an hour.
            const kept = site === undefined ? {} : { ...at(site - 1), age: '3600' }
            return new Response(null, { headers: kept })
          }
          const answer = await server.fetch(input, init)
          for (const [name, value] of Object.entries(at(date))) answer.headers.set(name, value)
          return answer
        },
      })
      const [state, secrets] = [randomId(), as.newSecrets()]
      const back = server.authorize(await as.authorizationUrl({ state, secrets, params: {} }))
      const signIn = as.redeem({ params: back.searchParams, state, secrets })
      const end = await signIn.then(
        () => 'taken',
        ({ code }) => code,
      )
      const idToken = server.idToken(config.clientId, 'alice')
      const session = { subject: 'alice', accessToken: 'a' }
      return [end, (await as.readIdToken(idToken, session)).kind]
    }

    test.each([-5, 5, -0.25])('is refused where a right clock says so (%s h)', async (told) => {
      expect(await judge({ told, site: 0 })).toEqual(['invalid_id_token', 'unusable'])
      expect((await judge({ told, date: 0 }))[0]).toBe('invalid_id_token')
    })

    test.each([-5, 5, 23])('is taken on a device that is wrong (%s h)', async (told) => {
      expect(await judge({ told, site: told })).toEqual(['taken', 'same'])
      expect((await judge({ told, date: told }))[0]).toBe('taken')
      // The server's own clock says more than another one.
      expect((await judge({ told, date: told, site: 0 }))[0]).toBe('taken')
    })

    test('is judged by itself within minutes', async () => {
      expect(await judge({ told: -0.1, site: 1, date: 1 })).toEqual(['taken', 'same'])
    })
  })

  test.each([25, -25, 24 * 365])(
    'is refused on a clock that is %s h wrong, with the reason',
    async (hours) => {
      const { signIn } = createWorld({ server: { now: () => Date.now() + hours * hour } })
      expect((await failure(signIn())).code).toBe('clock')
    },
  )
})

describe('a refresh', () => {
  const refreshWith = async (answer: () => Response | Promise<Response>, online = true) => {
    const { as, browser, server, signIn } = createWorld()
    await signIn()
    browser.online = online
    server.answers.push(answer)
    const outcome = await as.refresh('the-refresh-token')
    expect(JSON.stringify(outcome)).not.toContain('the-refresh-token')
    return outcome
  }

  test('brings tokens, and an ID token that is not judged yet (RF-12)', async () => {
    const idToken = jwt({ iss: 'https://evil.example' }, { alg: 'none' })
    const tokens = { access_token: 'a', token_type: 'bearer', expires_in: '60', scope: 'x' }
    const answer = await refreshWith(() =>
      json({ ...tokens, refresh_token: 'r', id_token: idToken }),
    )
    expect(answer).toEqual({
      kind: 'issued',
      tokens: {
        accessToken: 'a',
        refreshToken: 'r',
        scope: 'x',
        idToken,
        issuedAt: expect.any(Number),
        expiresAt: expect.any(Number),
      },
    })
  })

  test('may bring only an access token', async () => {
    const answer = await refreshWith(() => json({ access_token: 'a', token_type: 'bearer' }))
    expect(answer).toMatchObject({ kind: 'issued', tokens: { accessToken: 'a' } })
    expect(answer).not.toHaveProperty('tokens.refreshToken', expect.anything())
  })

  const html = { 'content-type': 'text/html' }
  const jsonType = { 'content-type': 'application/json' }

  test.each<[number, unknown, string, string]>([
    // A definitive no
    [400, { error: 'invalid_grant' }, 'refused', 'invalid_grant'],
    [403, { error: 'invalid_grant' }, 'refused', 'invalid_grant'],
    // The user is wanted (RF-09)
    [401, { error: 'invalid_grant' }, 'not-now', 'invalid_grant'],
    [401, { error: 'invalid_client' }, 'not-now', 'invalid_client'],
    [401, 'Unauthorized', 'not-now', 'invalid_token_response'],
    [401, {}, 'not-now', 'invalid_token_response'],
    [400, { error: 'interaction_required' }, 'not-now', 'interaction_required'],
    [400, { error: 'login_required' }, 'not-now', 'login_required'],
    [400, { error: 'consent_required' }, 'not-now', 'consent_required'],
    [403, { error: 'mfa_required' }, 'not-now', 'mfa_required'],
    [400, { error: 'access_denied' }, 'not-now', 'access_denied'],
    // A no that is not in the words of the standard, or a proxy's (RF-09)
    [400, { error: 'invalid_client' }, 'rejected', 'invalid_client'],
    [400, { error: 'unauthorized_client' }, 'rejected', 'unauthorized_client'],
    [400, { error: 'unsupported_grant_type' }, 'rejected', 'unsupported_grant_type'],
    [400, { error: 'invalid_request' }, 'rejected', 'invalid_request'],
    [400, { error: 'invalid_scope' }, 'rejected', 'invalid_scope'],
    [400, { error: 'something_new' }, 'rejected', 'server_error'],
    [400, { error: 5 }, 'rejected', 'invalid_token_response'],
    [400, 'Bad Request', 'rejected', 'invalid_token_response'],
    [403, '<html>blocked', 'rejected', 'invalid_token_response'],
    [404, 'Not Found', 'rejected', 'invalid_token_response'],
    [400, { error: 'invalid_token' }, 'rejected', 'server_error'],
    [410, '', 'rejected', 'invalid_token_response'],
    [403, `<html>${'x'.repeat(262_144)}`, 'rejected', 'invalid_token_response'],
    [200, { error: 'invalid_grant' }, 'refused', 'invalid_grant'],
    [200, { error: 'bad_refresh_token' }, 'rejected', 'server_error'],
    // Not the server's fault, or not for long (RF-06)
    [400, { error: 'temporarily_unavailable' }, 'unavailable', 'temporarily_unavailable'],
    [400, { error: 'server_error' }, 'unavailable', 'server_error'],
    [408, {}, 'unavailable', 'invalid_token_response'],
    [408, { error: 'invalid_request' }, 'unavailable', 'invalid_request'],
    [425, '', 'unavailable', 'invalid_token_response'],
    [429, { error: 'invalid_request' }, 'unavailable', 'invalid_request'],
    [429, 'Too Many', 'unavailable', 'invalid_token_response'],
    [503, '', 'unavailable', 'invalid_token_response'],
    [503, { error: 'invalid_client' }, 'unavailable', 'invalid_client'],
    [511, '<html>sign in to the Wi-Fi', 'unavailable', 'invalid_token_response'],
    // Nobody knows what became of the token (RF-07)
    [500, { error: 'invalid_client' }, 'unknown', 'invalid_client'],
    [500, 'down', 'unknown', 'invalid_token_response'],
    [502, '<html>', 'unknown', 'invalid_token_response'],
    [504, '', 'unknown', 'invalid_token_response'],
    [502, `<html>${'x'.repeat(262_144)}`, 'unknown', 'invalid_token_response'],
    // The server has acted, but not so that anybody could use it
    [200, { token_type: 'Bearer' }, 'rejected', 'invalid_token_response'],
    [200, { access_token: '', token_type: 'Bearer' }, 'rejected', 'invalid_token_response'],
    [200, { access_token: 'a' }, 'rejected', 'invalid_token_response'],
    [200, { access_token: 'a', token_type: 'DPoP' }, 'rejected', 'invalid_token_response'],
    [200, [], 'rejected', 'invalid_token_response'],
    [200, { access_token: 'x'.repeat(262_144) }, 'rejected', 'invalid_token_response'],
  ])('that is answered with %s %j is %s (%s)', async (status, body, kind, code) => {
    const text = typeof body === 'string'
    const answer = await refreshWith(() =>
      text ? new Response(body, { status, headers: html }) : json(body, status),
    )
    expect(answer).toMatchObject({ kind, error: { code } })
  })

  test('that is answered with broken JSON may have replaced the token (RF-07)', async () => {
    const answer = await refreshWith(() => new Response('{"access_', { headers: jsonType }))
    expect(answer).toMatchObject({
      kind: 'rejected',
      acted: true,
      error: { code: 'invalid_token_response' },
    })
  })

  test('that is answered in no language of a token endpoint may have replaced it, too', async () => {
    const answer = await refreshWith(() => new Response('error=bad_refresh_token'))
    expect(answer).toMatchObject({ kind: 'rejected', acted: true })
  })

  test('that is refused together with a time to come back is tried again then', async () => {
    const headers = { 'retry-after': '60' }
    const answer = await refreshWith(() => new Response('Slow down', { status: 403, headers }))
    expect(answer).toMatchObject({ kind: 'unavailable', retryAfter: 60_000 })
  })

  test('that is answered with tokens and 201 may have replaced it', async () => {
    const tokens = { access_token: 'a', token_type: 'Bearer' }
    const answer = await refreshWith(() => json(tokens, 201))
    expect(answer).toMatchObject({ kind: 'rejected', acted: true })
  })

  test('that is answered by a captive portal is unavailable (TK-04)', async () => {
    const answer = await refreshWith(() => new Response('<html>', { headers: html }))
    expect(answer).toMatchObject({ kind: 'unavailable', error: { code: 'invalid_token_response' } })
  })

  test('that gets no answer is unknown, and says what may be in the way (RF-07)', async () => {
    const answer = await refreshWith(() => Promise.reject(new TypeError('Failed to fetch')))
    expect(answer).toMatchObject({ kind: 'unknown', error: { code: 'token_endpoint_unreachable' } })
    expect('error' in answer && answer.error.message).toMatch(/CORS.*ad blocker/)
  })

  test('that was tried offline has reached nobody (OF-01)', async () => {
    const answer = await refreshWith(() => Promise.reject(new TypeError('Failed to fetch')), false)
    expect(answer).toMatchObject({ kind: 'unavailable', error: { code: 'offline' } })
  })

  test('during which the network goes away is unknown (RF-07)', async () => {
    const world = createWorld()
    const { authorizationServer } = world.createWorker()
    await authorizationServer.refresh('a first request, for the metadata')
    world.server.answers.push(() => {
      world.browser.online = false
      throw new TypeError('Failed to fetch')
    })
    const answer = await authorizationServer.refresh('r')
    expect(answer).toMatchObject({ kind: 'unknown', error: { code: 'offline' } })
  })

  test('that finds no metadata has not been sent', async () => {
    const { createWorker } = createWorld()
    const fetch = async () => new Response('', { status: 503 })
    const answer = await createWorker({ fetch }).authorizationServer.refresh('r')
    expect(answer).toMatchObject({ kind: 'unavailable', error: { code: 'metadata_unreachable' } })
  })

  test.each([
    ['120', 120_000],
    ['0', undefined],
    ['', undefined],
    [undefined, undefined],
    ['Wed, 21 Oct 2015 07:28:00 GMT', undefined],
    ['soon', undefined],
    ['-5', undefined],
  ])('that is told to wait, Retry-After: %s, says %s ms (RF-06)', async (value, ms) => {
    const headers = value === undefined ? undefined : { 'retry-after': value }
    const answer = await refreshWith(() => json({}, 503, headers))
    expect(answer).toMatchObject({ kind: 'unavailable', retryAfter: ms })
  })

  test('that is told to wait until a date says how long that is (RF-06)', async () => {
    const date = new Date(Date.now() + 120_000).toUTCString()
    const answer = await refreshWith(() => json({}, 429, { 'retry-after': date }))
    const { retryAfter } = answer as { retryAfter: number }
    expect(retryAfter).toBeGreaterThan(115_000)
    expect(retryAfter).toBeLessThanOrEqual(120_000)
  })

  test.each([
    ['a description', { error: 'invalid_grant', error_description: `\n${'x'.repeat(1000)}\u202e` }],
    ['an unknown code', { error: '<img src=x>\u0000'.repeat(100) }],
    ['a token that is repeated', { error: 'invalid_grant', refresh_token: 'secret', x: 'secret' }],
  ])('with %s in its error says little of it (ER-02)', async (_title, body) => {
    const answer = await refreshWith(() => json(body, 400))
    const message = 'error' in answer ? answer.error.message : ''
    expect(message.length).toBeGreaterThan(10)
    expect(message.length).toBeLessThan(450)
    expect(message).not.toMatch(/[^\x20-\x7e]|secret/)
  })
})

describe('the ID token of a refresh (RF-12)', () => {
  const judge = async (claims: object, more: WorldOptions = {}) => {
    const world = createWorld(more)
    const idToken = world.server.idToken(world.config.clientId, 'alice', claims)
    return await world.as.readIdToken(idToken, { subject: 'alice', accessToken: 'a' })
  }

  test('brings new claims, without those of the protocol', async () => {
    expect(await judge({ name: 'Ada', sid: 'x' })).toEqual({
      kind: 'same',
      claims: { sub: 'alice', name: 'Ada' },
    })
  })

  test.each<[string, object]>([
    ['iss', { iss: 'https://evil.example' }],
    ['sub', { sub: 'mallory' }],
    ['aud', { aud: 'other' }],
    ['list of aud', { aud: ['other', 'another'] }],
  ])('ends the session only with another %s', async (_title, claims) => {
    expect(await judge(claims)).toEqual({ kind: 'other-user' })
  })

  test.each<[string, object, WorldOptions?]>([
    ['no exp', { exp: undefined }],
    ['an exp in the past', { exp: 1_000_000_000 }],
    ['an nbf in the future', { nbf: 9_999_999_999 }],
    ['no iat', { iat: undefined }],
    ['no sub', { sub: undefined }],
    ['no aud', { aud: undefined }],
    ['an unknown alg', {}, { server: { header: { alg: 'XX' } } }],
  ])('is only a problem with %s', async (_title, claims, more) => {
    expect(await judge(claims, more)).toMatchObject({
      kind: 'unusable',
      error: { code: 'invalid_id_token' },
    })
  })

  test.each([1, -1, 25, -25, 24 * 365])(
    'costs nothing on a clock that is %s h wrong',
    async (hours) => {
      const answer = await judge({}, { server: { now: () => Date.now() + hours * hour } })
      expect(answer.kind).toBe('same')
    },
  )

  test('that is the one from before brings nothing, however old', async () => {
    const { as } = createWorld()
    const idToken = jwt({ exp: 1 })
    const session = { subject: 'alice', accessToken: 'a', idToken }
    expect(await as.readIdToken(idToken, session)).toEqual({ kind: 'same', claims: {} })
  })

  test('that cannot be read, encrypted say, ends nothing and brings nothing', async () => {
    const { as } = createWorld()
    for (const idToken of ['', 'x', 'x.y.z', 'a.b.c.d.e', jwt(null as never), jwt([])]) {
      const seen = await as.readIdToken(idToken, { subject: 'alice', accessToken: 'a' })
      expect(seen.kind).toBe('unusable')
    }
  })
})

describe('signing out', () => {
  test('revokes the refresh token, by name of its kind (SE-02)', async () => {
    const { as, server, config } = createWorld()
    await as.revoke('the-refresh-token')
    expect(Object.fromEntries(server.requests.at(-1)!.params)).toEqual({
      token: 'the-refresh-token',
      token_type_hint: 'refresh_token',
      client_id: config.clientId,
    })
  })

  test('waits 5 s for a revocation, and never fails because of it (SE-02)', async () => {
    const { browser, server, createWorker } = createWorld()
    const { authorizationServer } = createWorker({
      fetch: async (input, init) =>
        String(input).endsWith('/revoke') ? new Promise(() => {}) : server.fetch(input, init),
    })
    const done = authorizationServer.revoke('r')
    await browser.pass(5_000)
    await expect(done).resolves.toBeUndefined()
    const fetch = async () => {
      throw new TypeError('Failed to fetch')
    }
    await expect(createWorker({ fetch }).authorizationServer.revoke('r')).resolves.toBeUndefined()
  })

  test('asks nothing of a server that cannot revoke', async () => {
    const { as, server } = createWorld({ server: { metadata: { revocation_endpoint: undefined } } })
    await as.revoke('r')
    expect(server.requests).toHaveLength(1)
  })

  test('has a URL with the hint, where to come back, and a state (SE-04)', async () => {
    const { as, config } = createWorld()
    const url = new URL((await as.logoutUrl('the-state', 'the-id-token'))!)
    expect(url.origin + url.pathname).toBe('https://login.example/logout')
    expect(Object.fromEntries(url.searchParams)).toEqual({
      client_id: config.clientId,
      post_logout_redirect_uri: 'https://app.example/tokenward/logout.html',
      state: 'the-state',
      id_token_hint: 'the-id-token',
    })
  })

  test('drops a hint that would make the URL too long (SE-04)', async () => {
    const { as, config } = createWorld()
    const url = new URL((await as.logoutUrl('the-state', 'x'.repeat(8192)))!)
    expect(url.searchParams.has('id_token_hint')).toBe(false)
    expect(url.searchParams.get('client_id')).toBe(config.clientId)
  })

  test('asks the app for a URL where the server has none', async () => {
    const server = { metadata: { end_session_endpoint: undefined } }
    const logoutUrl = (context: object) => `https://x.example/?${JSON.stringify(context)}`
    const { as, config } = createWorld({ server, options: { logoutUrl } })
    const context = {
      clientId: config.clientId,
      postLogoutRedirectUri: 'https://app.example/tokenward/logout.html',
    }
    expect(await as.logoutUrl('s', 'i')).toBe(`https://x.example/?${JSON.stringify(context)}`)
    expect(await createWorld({ server }).as.logoutUrl('s', 'i')).toBeUndefined()
  })

  test('knows whether the server can be reached, whatever it answers', async () => {
    const { as, browser, createWorker } = createWorld()
    expect(await as.isReachable()).toBe(true)
    const failing = async () => {
      throw new TypeError('Failed to fetch')
    }
    expect(await createWorker({ fetch: failing }).authorizationServer.isReachable()).toBe(false)
    const silent = createWorker({ fetch: () => new Promise(() => {}) }).authorizationServer
    const answer = silent.isReachable()
    await browser.pass(5_000)
    expect(await answer).toBe(false)
  })
})
