import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkProof, type Proof, ProofError, thumbprintOf } from '../../demo/dpop-proof.mjs'
import { TokenError } from '../../src/shared/errors.js'
import type { WireEvent, WorkerCalls } from '../../src/shared/protocol.js'
import { assemble } from '../../sw/assemble.js'
import { arrivalOf } from '../../sw/http/arrival.js'
import { attach } from '../../sw/offline/attached-request.js'
import type { TokenWorkerOptions } from '../../sw/options/options.js'
import { parseOptions } from '../../sw/options/parse-options.js'
import type { ApiRule } from '../../sw/request/intercept.js'
import { dpop } from '../../sw/server/dpop.js'
import type { ActiveRecord, DpopKey } from '../../sw/session/records.js'
import type { Store } from '../../sw/session/store.js'
import {
  createFakeAuthorizationServer,
  type FakeServerOptions,
  json,
  type SeenRequest,
} from '../support/fake-authorization-server.js'
import { createFakeBrowser, type Fetch, fakePage } from '../support/fake-platform.js'
import { activeRecord, readDatabase, workingOptions } from '../support/worker-parts.js'

const app = 'https://app.example/'
const api = 'https://api.example/orders'

/** One request as the API saw it. */
interface Called {
  method: string
  authorization: string | null
  proof: string | null
  redirect: RequestInit['redirect']
  body: string
  /** Only if it was good. */
  checked?: Proof
}

interface ApiOptions {
  /** Demanded in each proof. */
  nonce?: string
  /** Headers that CORS hides. */
  hidden?: string[]
  /** More for each answer. */
  headers?: Record<string, string>
  /** How far the clock of the API is ahead, in ms. */
  ahead?: number
}

interface Options {
  options?: Partial<TokenWorkerOptions>
  server?: FakeServerOptions
  api?: ApiOptions
}

/** A browser, an authorization server and an API that check proofs, and as many workers as needed. */
const createWorld = ({ options, server: serverOptions, api: apiOptions = {} }: Options = {}) => {
  const browser = createFakeBrowser()
  browser.pages.push(fakePage({ id: 'page-1' }))
  const server = createFakeAuthorizationServer({ now: browser.now, dpop: {}, ...serverOptions })
  const config = parseOptions(workingOptions({ dpop: dpop(), ...options }), app)
  const calls: Called[] = []
  /** The next answers of the API, instead of its own. */
  const answers: ((request: Request) => Response)[] = []

  const callApi = async (request: Request, init: RequestInit = {}): Promise<Response> => {
    const headers = new Headers(init.headers ?? request.headers)
    const call: Called = {
      method: request.method,
      authorization: headers.get('authorization'),
      proof: headers.get('dpop'),
      redirect: init.redirect,
      body: await request.text(),
    }
    calls.push(call)
    const { nonce, hidden = [], ahead = 0, headers: more = {} } = apiOptions
    const now = browser.now() + ahead
    const send = (status: number, challenge?: string): Response => {
      const all = new Headers(more)
      if (challenge !== undefined) all.set('www-authenticate', challenge)
      if (nonce !== undefined) all.set('dpop-nonce', nonce)
      all.set('date', new Date(now).toUTCString())
      for (const name of hidden) all.delete(name)
      const response = new Response('{}', { status, headers: all })
      return Object.defineProperty(response, 'type', { value: 'cors' })
    }
    const answer = answers.shift()
    if (answer) return answer(request)
    if (call.proof === null) return send(401, 'DPoP algs="ES256"')
    try {
      const { origin, pathname } = new URL(request.url)
      const accessToken = call.authorization?.replace(/^DPoP /, '')
      const url = origin + pathname
      const { method } = request
      call.checked = checkProof(call.proof, { method, url, accessToken, nonce, now })
      return send(200)
    } catch (error) {
      return send(401, `DPoP error="${(error as ProofError).code}"`)
    }
  }

  const route: Fetch = async (input, init) =>
    input instanceof Request && input.url.startsWith('https://api.')
      ? await callApi(input, init)
      : await server.fetch(input, init)

  /** A worker; a second call is the same one after a restart. */
  const start = ({ fetch = route, store }: { fetch?: Fetch; store?: Partial<Store> } = {}) => {
    const platform = browser.platform(fetch)
    const events: WireEvent[] = []
    let frames = 0
    const bridge = {
      // The page with the hidden frame: it follows the redirects, as a browser does.
      call: (async ({ name, input }: { name: string; input: { url: string } }) => {
        if (name === 'probe') return { able: true, visible: true }
        frames++
        const away = await visit('silent', input.url, 'iframe')
        if (away.startsWith(server.metadata.authorization_endpoint as string)) {
          await visit('callback', server.authorize(away).href, 'iframe')
        }
        return { end: 'done', loaded: true, isolated: false }
      }) as never,
      publish: async (event: WireEvent) => void events.push(event),
    }
    let opened = undefined as unknown as Store
    const makeStore = (made: Store): Store => {
      opened = made
      return { ...made, ...store }
    }
    const parts = assemble({ config, platform, bridge, changes: { store: makeStore } })
    const visit = async (
      page: 'login' | 'silent' | 'callback' | 'logout',
      url: string,
      destination: RequestDestination = 'document',
    ): Promise<string> => {
      const request = { method: 'GET', destination, url } as Request
      const arrival = arrivalOf(request, { waitUntil: () => {}, resultingClientId: 'page-1' })
      const response = await parts.authPages(page, arrival)
      return response.headers.get('location') ?? ''
    }
    const pageCalls: WorkerCalls = parts.pageCalls('page-1', () => {})

    const leave = async (): Promise<string> => {
      const { url } = await pageCalls.login({ returnTo: app })
      return await visit('login', url)
    }
    const [rule] = config.apis as [ApiRule]
    const send = async (request: Request, clientId = 'page-1'): Promise<Response> => {
      const arrival = arrivalOf(request, { waitUntil: () => {}, clientId })
      return (await parts.apiRequest(arrival, rule).send()).response
    }
    /** As a strategy of Workbox sends it: by itself. */
    const sendItself = async (url: string): Promise<Response> => {
      const request = new Request(url)
      const arrival = arrivalOf(request, { waitUntil: () => {}, clientId: 'page-1' })
      const attached = await attach(parts.apiRequest(arrival, rule), request)
      const response = await platform.fetch(attached.request.clone())
      return await attached.settle(response, attached.request)
    }
    return {
      ...{ platform, events, visit, pageCalls, leave, store: opened },
      frames: () => frames,
      problems: () => events.flatMap((event) => (event.type === 'problem' ? event.error.code : [])),

      signIn: async (subject = 'alice'): Promise<URLSearchParams> => {
        const url = await leave()
        await visit('callback', server.authorize(url, subject).href)
        return new URL(url).searchParams
      },

      fetch: (init: RequestInit = {}, url = api) => send(new Request(url, init)),
      send,
      sendItself,

      record: async () => (await opened.read()) as ActiveRecord,
      keyOf: async () => ((await opened.read()) as ActiveRecord).dpopKey as DpopKey,
    }
  }

  return { browser, server, config, calls, answers, apiOptions, route, start }
}

type World = ReturnType<typeof createWorld>

/** A world with a signed-in user. */
const signedIn = async (options?: Options) => {
  const world = createWorld(options)
  const worker = world.start()
  await worker.signIn()
  expect((await worker.record()).status).toBe('active')
  world.server.requests.length = 0
  return { ...world, worker }
}

const refreshes = ({ server }: Pick<World, 'server'>) =>
  server.tokenRequests().filter(({ params }) => params.get('grant_type') === 'refresh_token')

/** A browser that does not store keys. */
const refusingKeys = ({ writeDpop }: Store): Partial<Store> => ({
  writeDpop: async (state) => {
    if (!state.probe) return await writeDpop(state)
    const cause = new DOMException('CryptoKey could not be cloned.', 'DataCloneError')
    throw Object.assign(new Error('storage_failed'), { cause })
  },
})

const proofOf = ({ init }: SeenRequest) => new Headers(init.headers).get('dpop')

/** The server acts, its answer is lost, and the browser sends the same request again. */
const resent =
  ({ server }: Pick<World, 'server'>) =>
  (request: SeenRequest): Response => {
    expect(server.grant(request).status).toBe(200)
    return server.grant(request)
  }

describe('a proof', () => {
  // RFC 9449, 4.1 and 7.1: what the checks of these tests and of the demo API are themselves held to.
  test('is checked as in the examples of RFC 9449', () => {
    const example =
      'eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNo' +
      'UklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERW' +
      'clUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh' +
      '0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8' +
      'v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg'
    const expected = {
      method: 'POST',
      url: 'https://server.example.com/token',
      now: 1_562_262_616_000,
    }
    const { jkt } = checkProof(example, expected)
    expect(jkt).toBe('0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I')
    for (const wrong of [
      { method: 'GET' },
      { url: 'https://server.example.com/other' },
      { now: expected.now + 120_000 },
      { accessToken: 'Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU' },
    ]) {
      expect(() => checkProof(example, { ...expected, ...wrong })).toThrow(ProofError)
    }
    expect(() => checkProof(`${example.slice(0, -4)}AAAA`, expected)).toThrow('signature')
    expect(() => checkProof(example, { ...expected, nonce: 'n' })).toThrow('nonce')
  })

  test('names method, URL, token and time of its request, and is never the same (DP-02)', {
    timeout: 30_000,
  }, async () => {
    const { worker, calls, browser } = await signedIn()
    const { accessToken = '' } = await worker.record()
    const text = fc.string({ maxLength: 12 }).map(encodeURIComponent)
    const seen = new Set<string>()
    const property = fc.asyncProperty(
      fc.constantFrom('GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'REPORT'),
      fc.array(text, { maxLength: 4 }),
      text,
      text,
      async (method, segments, query, fragment) => {
        const url = `https://api.example/${segments.join('/')}?${query}#${fragment}`
        const response = await worker.fetch({ method }, url)
        expect(response.status).toBe(200)
        const { checked, authorization } = calls.at(-1) as Called
        const { jti, ...claims } = checked?.claims ?? {}
        expect(claims).toEqual({
          htm: method,
          // As it was parsed, and without the rest.
          htu: new URL(url).href.replace(/[?#].*/, ''),
          iat: Math.floor(browser.now() / 1000),
          ath: createHash('sha256').update(accessToken).digest('base64url'),
        })
        expect(authorization).toBe(`DPoP ${accessToken}`)
        // 96 bits and more.
        expect(Buffer.from(jti, 'base64url').length).toBeGreaterThanOrEqual(12)
        expect(seen.has(jti)).toBe(false)
        seen.add(jti)
      },
    )
    await fc.assert(property, { numRuns: 100 })
  })

  test('shows the public key and nothing else (DP-01)', async () => {
    const { worker, calls } = await signedIn()
    await worker.fetch()
    const key = await worker.keyOf()
    expect(calls[0]?.checked?.header).toEqual({ typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk })
    expect(Object.keys(key.jwk).sort()).toEqual(['crv', 'kty', 'x', 'y'])
    expect(key.jkt).toBe(thumbprintOf(key.jwk))
  })
})

describe('the key', () => {
  test('cannot be exported (DP-01)', async () => {
    const { worker } = await signedIn()
    const { privateKey } = await worker.keyOf()
    expect(privateKey).toMatchObject({ type: 'private', extractable: false, usages: ['sign'] })
    for (const format of ['jwk', 'pkcs8'] as const) {
      await expect(crypto.subtle.exportKey(format, privateKey as CryptoKey)).rejects.toThrow()
    }
  })

  test('is another one for each sign-in, and the same for each renewal of it (DP-10, DP-11)', async () => {
    const { worker, server } = await signedIn()
    const { jkt } = await worker.keyOf()
    await worker.pageCalls.renew()
    expect((await worker.keyOf()).jkt).toBe(jkt)
    // By a silent login.
    server.setGrant(undefined)
    await worker.pageCalls.renew()
    expect(worker.frames()).toBe(1)
    expect(await worker.keyOf()).toMatchObject({ jkt, privateKey: expect.any(CryptoKey) })
    expect(new Set(server.proofs.map((proof) => proof.jkt))).toEqual(new Set([jkt]))
    await worker.signIn()
    expect((await worker.keyOf()).jkt).not.toBe(jkt)
  })

  test('outlives the worker, and so do the nonces (DP-07)', async () => {
    const nonce = 'nonce-1'
    const { worker, start, calls } = await signedIn({ api: { nonce } })
    await worker.fetch()
    expect(calls.map(({ checked }) => checked?.claims['nonce'])).toEqual([undefined, nonce])
    const { jkt } = await worker.keyOf()
    const next = start()
    expect((await next.fetch()).status).toBe(200)
    expect(calls).toHaveLength(3)
    expect(calls[2]?.checked).toMatchObject({ jkt, claims: { nonce } })
  })

  test('outlives the worker without nonces that a script has put there (CB-12)', async () => {
    const { worker, start, calls } = await signedIn()
    const { origin } = new URL(api)
    const proofs: number[] = []
    // So long a header is refused without an answer that could bring another nonce.
    for (const nonce of ['x'.repeat(100_000), 'two words', '"', '', { toString: 1 }]) {
      await worker.store.writeDpop({ nonces: { [origin]: nonce as string } })
      expect((await start().fetch()).status).toBe(200)
      expect(calls.at(-1)?.checked?.claims['nonce']).toBe(undefined)
      proofs.push(calls.at(-1)?.proof?.length ?? 0)
    }
    expect(Math.max(...proofs)).toBeLessThan(2_000)
  })

  test('is gone after a logout, and the nonces with it (DP-11)', async () => {
    const { worker, server } = await signedIn({ api: { nonce: 'api-nonce' } })
    server.options.dpop = { nonce: 'server-nonce' }
    await worker.fetch()
    await worker.pageCalls.renew()
    const { jkt, jwk } = await worker.keyOf()
    const left = async () => {
      const entries = Object.values(await readDatabase(worker.store.name)).flat()
      // A key shows nothing as JSON, so it is looked for.
      return JSON.stringify(entries, (_, value) =>
        value instanceof CryptoKey ? 'a CryptoKey' : value,
      )
    }
    for (const word of [jkt, jwk.x, 'a CryptoKey', 'api-nonce', 'server-nonce']) {
      expect(await left()).toContain(word)
    }
    await worker.pageCalls.logout({ local: true })
    await expect.poll(left).not.toContain('nonce-')
    for (const word of [jkt, jwk.x, 'a CryptoKey', 'api-nonce', 'server-nonce']) {
      expect(await left()).not.toContain(word)
    }
  })

  test('of a session is in no transaction of its silent logins (DP-11)', async () => {
    const { worker, server } = await signedIn()
    const { jkt } = await worker.keyOf()
    // The frame leaves for the server and never comes back.
    server.setGrant(undefined)
    const lost = server.authorize
    server.authorize = () => new URL(`${app}tokenward/callback.html?state=none`)
    await expect(worker.pageCalls.renew()).rejects.toMatchObject({ code: 'timeout' })
    server.authorize = lost
    const entries = (await readDatabase(worker.store.name))['transactions'] ?? []
    const keys = entries.flatMap(([, value]) => (value as { sent?: object }).sent ?? [])
    // One with the hint, and one without.
    expect(keys).toMatchObject([{ dpopKey: { jkt } }, { dpopKey: { jkt } }])
    for (const key of keys) {
      expect(key).not.toMatchObject({ dpopKey: { privateKey: expect.anything() } })
    }
  })

  test('that no browser can store lives as long as the worker, and pages are told (ST-11)', async () => {
    const { start, server, calls } = createWorld()
    const store = refusingKeys(start().store)
    const worker = start({ store })
    await worker.signIn()
    expect(worker.problems()).toEqual(['storage_failed'])
    const key = await worker.keyOf()
    expect(key.privateKey).toBe(undefined)
    expect((await worker.fetch()).status).toBe(200)
    await worker.pageCalls.renew()
    expect(worker.frames()).toBe(0)
    // The next worker gets tokens of its own; the refresh token is not sent with another key.
    server.requests.length = 0
    const next = start({ store })
    expect((await next.fetch()).status).toBe(200)
    expect(next.frames()).toBe(1)
    expect(refreshes({ server })).toEqual([])
    expect(calls.at(-1)?.checked?.jkt).not.toBe(key.jkt)
    // A sign-in that the worker did not live to see the end of cannot be ended by another one.
    const url = server.authorize(await next.leave()).href
    const third = start({ store })
    expect(await third.visit('callback', url)).toBe(`${app}#`)
    expect((await third.pageCalls.hello()).landing).toMatchObject({
      code: 'login_interrupted',
    })
  })

  test.each<[string, (() => Promise<CryptoKey | undefined>) | undefined]>([
    ['missing', undefined],
    ['without its private half', async () => undefined],
    [
      'one that could be exported',
      async () => {
        const ecdsa = { name: 'ECDSA', namedCurve: 'P-256' }
        return (await crypto.subtle.generateKey(ecdsa, true, ['sign', 'verify'])).privateKey
      },
    ],
    [
      'one that does not sign',
      () => crypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-256' }, false, ['sign']),
    ],
  ])(
    'that is %s makes the refresh token worthless: silent login, with a new key (DP-10)',
    async (_, makeKey) => {
      const { start, server, calls, browser } = createWorld()
      const worker = start()
      const jwk = { crv: 'P-256', kty: 'EC', x: 'x', y: 'y' }
      const dpopKey = makeKey && { jkt: 'k', jwk, privateKey: await makeKey() }
      const refreshToken = 'bound-to-a-lost-key'
      await worker.store.update(() => activeRecord(browser.now(), { refreshToken, dpopKey }))
      expect((await worker.fetch()).status).toBe(200)
      expect(worker.frames()).toBe(1)
      expect(refreshes({ server })).toEqual([])
      const record = await worker.record()
      expect(record.refreshToken).not.toBe(refreshToken)
      expect(record.dpopKey).toMatchObject({ jkt: calls[0]?.checked?.jkt })
      expect(calls).toHaveLength(1)
    },
  )

  test('that is missing while no page is open is made by the next page, at once (DP-10)', async () => {
    const { start, browser } = createWorld()
    const worker = start()
    await worker.store.update(() => activeRecord(browser.now(), { refreshToken: 'r' }))
    const pages = browser.pages.splice(0)
    const request = new Request(api)
    expect((await worker.send(request, '')).type).toBe('error')
    browser.pages.push(...pages)
    expect((await worker.fetch()).status).toBe(200)
  })

  test('of a late answer does not get the refresh token of another one (DP-10)', async () => {
    const { start, server, browser } = createWorld()
    const worker = start()
    await worker.store.update(() => activeRecord(browser.now(), { refreshToken: 'r' }))
    const { authorize } = server
    let late = ''
    server.authorize = (url) => {
      late = url
      return new URL(`${app}tokenward/callback.html?state=none`)
    }
    await expect(worker.pageCalls.renew()).rejects.toMatchObject({ code: 'timeout' })
    server.authorize = authorize
    await worker.pageCalls.renew()
    const { dpopKey, refreshToken } = await worker.record()
    expect(refreshToken).toEqual(expect.any(String))
    server.options.tokens = { refresh_token: undefined }
    await worker.visit('callback', server.authorize(late).href, 'iframe')
    const record = await worker.record()
    expect(record.dpopKey?.jkt).not.toBe(dpopKey?.jkt)
    expect(record.refreshToken).toBe(undefined)
  })

  test('that stops to sign between two requests is replaced in the same way (DP-10)', async () => {
    const { worker, server, calls } = await signedIn()
    await worker.fetch()
    const { jkt } = await worker.keyOf()
    const { sign } = crypto.subtle
    let failures = 1
    crypto.subtle.sign = (...args: Parameters<typeof sign>) =>
      failures-- > 0 ? Promise.reject(new Error('no')) : sign.apply(crypto.subtle, args)
    try {
      expect((await worker.fetch()).status).toBe(200)
    } finally {
      crypto.subtle.sign = sign
    }
    expect(worker.frames()).toBe(1)
    expect(refreshes({ server })).toEqual([])
    expect(calls.at(-1)?.checked?.jkt).not.toBe(jkt)
  })

  test('that stops to sign fails a request with an answer that says whose it is (ER-05)', async () => {
    const { worker, calls } = await signedIn()
    await worker.fetch()
    const count = calls.length
    const { sign } = crypto.subtle
    crypto.subtle.sign = () => Promise.reject(new Error('no'))
    try {
      // A page that is being left cannot wait for another token.
      const response = await worker.fetch({ keepalive: true })
      expect(response.status).toBe(401)
      expect(response.headers.get('x-tokenward')).toBe('1')
      expect(calls).toHaveLength(count)
    } finally {
      crypto.subtle.sign = sign
    }
  })

  test('that another worker has, and cannot store, keeps its tokens (DP-10)', async () => {
    const { start, server, browser } = createWorld()
    const store = refusingKeys(start().store)
    const worker = start({ store })
    await worker.signIn()
    const { refreshToken } = await worker.record()
    // The other one cannot sign in now, and writes that down.
    const pages = browser.pages.splice(0, Infinity, fakePage({ topLevel: false }))
    const other = start({ store })
    expect((await other.send(new Request(api), '')).type).toBe('error')
    expect(await worker.record()).toMatchObject({ loginRequired: true, refreshToken })
    browser.pages.splice(0, 1, ...pages)
    expect((await worker.fetch()).status).toBe(200)
    await worker.pageCalls.renew()
    expect(refreshes({ server })).toHaveLength(1)
    expect(worker.frames()).toBe(0)
  })

  test('that cannot be read for a moment is not given up (DP-10)', async () => {
    const { start, route, server } = await signedIn()
    let failures = 0
    const { read } = start().store
    const worker = start({
      fetch: route,
      store: {
        read: async () => {
          if (failures-- > 0) throw new TokenError('storage_failed', 'Not now.')
          return await read()
        },
      },
    })
    const before = await worker.record()
    const { authorize } = server
    server.authorize = (...given) => {
      // The next look at the record is for the key that redeems the code.
      failures = 1
      return authorize(...given)
    }
    await worker.pageCalls.checkSession().catch(() => {})
    expect(failures).toBeLessThan(1)
    server.authorize = authorize
    await worker.pageCalls.renew()
    const after = await worker.record()
    expect(refreshes({ server }).map(({ params }) => params.get('refresh_token'))).toEqual([
      before.refreshToken,
    ])
    expect(after.dpopKey?.jkt).toBe(before.dpopKey?.jkt)
  })

  test('that the server knows nobody for ends the session (DP-10)', async () => {
    const { start, server, calls, browser } = createWorld()
    const worker = start()
    await worker.store.update(() => activeRecord(browser.now(), { refreshToken: 'r' }))
    server.authorize = (url) => {
      const state = new URL(url).searchParams.get('state')
      const { issuer } = server
      return new URL(
        `${app}tokenward/callback.html?error=login_required&state=${state}&iss=${issuer}`,
      )
    }
    expect((await worker.fetch()).status).toBe(401)
    expect(await worker.record()).toMatchObject({ status: 'ended', reason: 'ended' })
    // Without a token: the API's own answer.
    expect(calls).toMatchObject([{ authorization: null, proof: null }])
  })
})

describe('at the authorization server', () => {
  test('the code is bound to the key, and redeemed with it (DP-09, DP-02)', async () => {
    const { start, server } = createWorld()
    const worker = start()
    const asked = await worker.signIn()
    const { jkt } = await worker.keyOf()
    expect(asked.get('dpop_jkt')).toBe(jkt)
    expect(server.proofs).toMatchObject([{ jkt, claims: { htm: 'POST' } }])
    expect(server.proofs[0]?.claims).toMatchObject({ htu: server.metadata.token_endpoint })
    expect(server.proofs[0]?.claims).not.toHaveProperty('ath')
  })

  test('the key is the one of the transaction, whatever came since (CB-10)', async () => {
    const { worker, server } = await signedIn()
    const url = await worker.leave()
    const jkt = new URL(url).searchParams.get('dpop_jkt')
    await worker.signIn()
    const other = await worker.keyOf()
    await worker.visit('callback', server.authorize(url).href)
    expect(other.jkt).not.toBe(jkt)
    expect((await worker.keyOf()).jkt).toBe(jkt)
    expect(server.proofs.at(-1)?.jkt).toBe(jkt)
  })

  test('a sign-in that fails for a hidden nonce or a wrong clock says so where it lands', async () => {
    const { start, server, browser } = createWorld()
    const worker = start()
    const landing = async () => (await worker.pageCalls.hello()).landing
    for (let times = 0; times < 2; times++) {
      server.answers.push(() => json({ error: 'use_dpop_nonce' }, 400))
      await worker.signIn()
      expect(await landing()).toMatchObject({
        code: 'cors_expose_headers',
        message: expect.stringContaining('Access-Control-Expose-Headers: DPoP-Nonce'),
      })
    }
    server.answers.push(() => {
      const date = new Date(browser.now() + 3_600_000).toUTCString()
      return Response.json({ error: 'invalid_dpop_proof' }, { status: 400, headers: { date } })
    })
    await worker.signIn()
    expect(await landing()).toMatchObject({ code: 'clock' })
    // A page that is open hears it too, once.
    expect(worker.problems()).toEqual(['cors_expose_headers', 'clock'])
    await worker.signIn()
    expect(await landing()).toBeUndefined()
    expect((await worker.record()).status).toBe('active')
  })

  test('a token that is not bound to the key is refused (DP-05)', async () => {
    const { start } = createWorld({ server: { tokens: { token_type: 'Bearer' } } })
    const worker = start()
    await worker.signIn()
    expect(await worker.record()).toBe(undefined)
    const { landing } = await worker.pageCalls.hello()
    expect(landing).toMatchObject({
      code: 'invalid_token_response',
      message: expect.stringContaining('"Bearer", not DPoP'),
    })
  })

  test('so is one at a refresh, and the old one is kept (DP-05)', async () => {
    const { worker, server } = await signedIn()
    const { accessToken } = await worker.record()
    server.answers.push((request) => {
      const answer = { ...server.issue('c', 'alice'), token_type: 'bearer' }
      expect(proofOf(request)).not.toBe(null)
      return json(answer)
    })
    await expect(worker.pageCalls.renew()).rejects.toMatchObject({ code: 'invalid_token_response' })
    expect((await worker.record()).accessToken).toBe(accessToken)
  })

  test('without the option, a token that is bound to a key is refused (DP-04, DP-05)', async () => {
    const { start, server } = createWorld({
      options: { dpop: undefined },
      server: { dpop: undefined },
    })
    server.options.tokens = { token_type: 'DPoP' }
    const worker = start()
    const asked = await worker.signIn()
    expect(asked.has('dpop_jkt')).toBe(false)
    expect(await worker.record()).toBe(undefined)
    const { landing } = await worker.pageCalls.hello()
    expect(landing?.message).toContain('"DPoP", not Bearer')
  })

  test.each([
    ['a rotating', true],
    ['a lasting', false],
  ])(
    '%s refresh token is sent with the key of its sign-in, a new proof each time (DP-10)',
    async (_, rotate) => {
      const { worker, server } = await signedIn({ server: { rotate } })
      const { jkt } = await worker.keyOf()
      const tokens = new Set([(await worker.record()).refreshToken])
      for (let i = 0; i < 3; i++) {
        await worker.pageCalls.renew()
        tokens.add((await worker.record()).refreshToken)
      }
      expect(tokens.size).toBe(rotate ? 4 : 1)
      expect(refreshes({ server })).toHaveLength(3)
      const jtis = server.proofs.map(({ jti }) => jti)
      expect(new Set(jtis).size).toBe(4)
      expect(server.proofs.every((proof) => proof.jkt === jkt)).toBe(true)
    },
  )

  test('a nonce that is demanded is put into a second request, and kept (DP-06, DP-07)', async () => {
    const { start, server } = createWorld({ server: { dpop: { nonce: 'nonce-1' } } })
    const worker = start()
    await worker.signIn()
    expect(server.tokenRequests()).toHaveLength(2)
    server.requests.length = 0
    await worker.pageCalls.renew()
    expect(server.tokenRequests()).toHaveLength(1)
    server.options.dpop = { nonce: 'nonce-2' }
    await worker.pageCalls.renew()
    expect(server.tokenRequests()).toHaveLength(3)
    // Another life knows the last one.
    await start().pageCalls.renew()
    expect(server.tokenRequests()).toHaveLength(4)
    const nonces = server.proofs.map(({ claims }) => claims['nonce'])
    expect(nonces).toEqual(['nonce-1', 'nonce-1', 'nonce-2', 'nonce-2'])
  })

  test('a nonce that came with tokens is used for the next request (DP-07)', async () => {
    const { worker, server } = await signedIn()
    server.answers.push((request) => {
      const { body, status } = server.grant(request)
      return new Response(body, {
        status,
        headers: { 'content-type': 'application/json', 'dpop-nonce': 'next' },
      })
    })
    await worker.pageCalls.renew()
    await worker.pageCalls.renew()
    expect(server.proofs.at(-1)?.claims['nonce']).toBe('next')
  })

  test('a second demand for a nonce is an error, and the session stays (DP-06)', async () => {
    const { worker, server } = await signedIn()
    const demand = () => json({ error: 'use_dpop_nonce' }, 400, { 'dpop-nonce': 'n' })
    server.answers.push(demand, demand, demand)
    await expect(worker.pageCalls.renew()).rejects.toMatchObject({ code: 'server_error' })
    expect(refreshes({ server })).toHaveLength(2)
    expect(await worker.record()).toMatchObject({
      status: 'active',
      refreshToken: expect.anything(),
    })
  })

  test('a nonce that CORS hides is told to pages, with the remedy (DP-06)', async () => {
    const { worker, server } = await signedIn()
    server.answers.push(() => json({ error: 'use_dpop_nonce' }, 400))
    await expect(worker.pageCalls.renew()).rejects.toThrow()
    expect(refreshes({ server })).toHaveLength(1)
    expect(worker.events).toContainEqual({
      type: 'problem',
      error: {
        code: 'cors_expose_headers',
        message: expect.stringMatching(/login\.example.*Access-Control-Expose-Headers: DPoP-Nonce/),
      },
    })
  })

  test('a proof that the browser has sent twice is no proof of a dead refresh token (RF-07)', async () => {
    const world = await signedIn({ server: { rotate: false } })
    const { worker, server } = world
    const { refreshToken } = await worker.record()
    server.answers.push((request) => {
      // oidc-provider calls a replay by this name.
      expect(resent(world)(request).status).toBe(400)
      return json({ error: 'invalid_grant' }, 400)
    })
    await worker.pageCalls.renew()
    expect(worker.frames()).toBe(0)
    expect(refreshes({ server }).map((request) => request.params.get('refresh_token'))).toEqual([
      refreshToken,
      refreshToken,
    ])
    const [first, second] = refreshes({ server }).map(proofOf)
    expect(first).not.toBe(second)
    const record = await worker.record()
    expect(record).toMatchObject({ refreshToken })
    expect(record.refreshSentAt).toBe(undefined)
  })

  test('by the name of the RFC, too', async () => {
    const world = await signedIn({ server: { rotate: false } })
    world.server.answers.push(resent(world))
    await world.worker.pageCalls.renew()
    expect(refreshes(world)).toHaveLength(2)
    expect(world.worker.frames()).toBe(0)
  })

  test('where it rotates, the second answer decides: silent login (RF-07)', async () => {
    const world = await signedIn()
    world.server.answers.push(resent(world))
    await world.worker.pageCalls.renew()
    expect(refreshes(world)).toHaveLength(2)
    expect(world.worker.frames()).toBe(1)
    expect((await world.worker.fetch()).status).toBe(200)
  })

  test('a dead refresh token is tried twice and no more', async () => {
    const { worker, server } = await signedIn()
    server.setGrant(undefined)
    await worker.pageCalls.renew()
    expect(refreshes({ server })).toHaveLength(2)
    expect(worker.frames()).toBe(1)
  })

  test('the second try has the first one’s intent on the disk, and a worker that is stopped in it leaves the outcome unknown (RF-05)', async () => {
    const world = await signedIn()
    const { worker, server, start, route } = world
    let stopped = () => {}
    const isStopped = new Promise<void>((resolve) => {
      stopped = resolve
    })
    server.answers.push(() => json({ error: 'invalid_grant' }, 400))
    const dying = start({
      fetch: async (input, init) => {
        const isSecond = refreshes({ server }).length === 1
        if (isSecond) {
          stopped()
          return await new Promise<never>(() => {})
        }
        return await route(input, init)
      },
    })
    dying.pageCalls.renew().catch(() => {})
    await isStopped
    const record = await worker.record()
    expect(record).toMatchObject({ refreshToken: expect.anything() })
    expect(record.refreshSentAt).toEqual(expect.any(Number))
  })

  test('a code is never sent twice for an answer that may have taken it', async () => {
    const { start, server } = createWorld()
    for (const error of ['invalid_grant', 'invalid_dpop_proof']) {
      server.answers.push(() => json({ error }, 400))
      const worker = start()
      await worker.signIn()
      expect(server.tokenRequests(), error).toHaveLength(1)
      server.requests.length = 0
      const { landing } = await worker.pageCalls.hello()
      expect(landing?.message).toContain(error)
    }
  })

  test('a code is sent again for a nonce, with the same verifier (DP-06)', async () => {
    const { start, server } = createWorld({ server: { dpop: { nonce: 'n' } } })
    const worker = start()
    await worker.signIn()
    const [first, second] = server.tokenRequests()
    expect(second?.params.toString()).toBe(first?.params.toString())
    expect((await worker.record()).status).toBe('active')
  })

  test('revoking needs no proof', async () => {
    const { worker, server } = await signedIn()
    const { refreshToken } = await worker.record()
    await worker.pageCalls.logout({ local: true })
    await expect.poll(() => server.revoked).toEqual([refreshToken])
  })

  test('a wrong clock of this device is made up for, up to ten minutes (DP-13)', async () => {
    const { worker, server, browser } = await signedIn()
    browser.setClock(-5 * 60_000)
    // The server’s clock has not moved.
    const ahead = 5 * 60_000
    const check = (request: SeenRequest): Response => {
      const method = 'POST'
      const { url } = request
      try {
        checkProof(proofOf(request) ?? '', { method, url, now: browser.now() + ahead })
        return server.grant(request)
      } catch (error) {
        const headers = { date: new Date(browser.now() + ahead).toUTCString() }
        return json({ error: (error as ProofError).code }, 400, headers)
      }
    }
    // Its own check is not what is tested here.
    const { prove } = server
    server.prove = (request) => {
      const { jkt } = checkProof(proofOf(request) ?? '', {
        method: 'POST',
        url: request.url,
        now: browser.now() + ahead,
      })
      return { jkt, jti: '', header: {}, claims: {} }
    }
    server.answers.push(check, check, check)
    await worker.pageCalls.renew()
    expect(refreshes({ server })).toHaveLength(2)
    // It is known now.
    await worker.pageCalls.renew()
    expect(refreshes({ server })).toHaveLength(3)
    expect(worker.frames()).toBe(0)
    server.prove = prove
  })
})

describe('at an API', () => {
  test('a request carries the token by the scheme DPoP, and a header of the page is replaced (DP-04, IN-10)', async () => {
    const { worker, calls } = await signedIn()
    await worker.fetch({ method: 'POST', body: 'x', headers: { DPoP: 'forged', 'x-own': '1' } })
    const { accessToken } = await worker.record()
    expect(calls).toMatchObject([{ authorization: `DPoP ${accessToken}`, body: 'x' }])
    expect(calls[0]?.checked).toBeDefined()
    expect(calls[0]?.proof).not.toContain('forged')
  })

  test('no redirect is followed, with which the proof would go elsewhere (IN-10)', async () => {
    const { worker, calls } = await signedIn()
    for (const redirect of ['follow', 'error', 'manual'] as const) await worker.fetch({ redirect })
    expect(calls.map(({ redirect }) => redirect)).toEqual(['error', 'error', 'manual'])
  })

  test('a token that is bound to no key is never sent as if it were, nor the other way round (DP-04)', async () => {
    const bearer = await signedIn({ options: { dpop: undefined }, server: { dpop: undefined } })
    await bearer.worker.fetch()
    for (const { authorization, proof } of bearer.calls) {
      expect([authorization, proof]).toEqual([expect.stringMatching(/^Bearer /), null])
    }
    expect(bearer.calls.length).toBeGreaterThan(0)
    // The record of a worker that had the option, and then one that has it no longer.
    const { worker } = await signedIn()
    const bound = await worker.record()
    const { start, calls } = createWorld({
      options: { dpop: undefined },
      server: { dpop: undefined },
    })
    const plain = start()
    await plain.store.update(() => bound)
    await plain.fetch()
    expect(plain.frames()).toBe(1)
    expect(calls[0]?.authorization).toMatch(/^Bearer /)
    expect(calls[0]?.authorization).not.toContain(bound.accessToken)
    expect((await plain.record()).dpopKey).toBe(undefined)
  })

  test('a nonce that is demanded is put into a second request; no token is renewed (DP-06, RF-17)', async () => {
    const { worker, calls, server, apiOptions } = await signedIn({ api: { nonce: 'nonce-1' } })
    const send = () => worker.fetch({ method: 'PUT', body: 'the body' })
    expect((await send()).status).toBe(200)
    expect(calls).toHaveLength(2)
    expect((await send()).status).toBe(200)
    expect(calls).toHaveLength(3)
    apiOptions.nonce = 'nonce-2'
    expect((await send()).status).toBe(200)
    expect(calls).toHaveLength(5)
    expect(calls.map(({ body }) => body)).toEqual(Array(5).fill('the body'))
    expect(new Set(calls.map(({ proof }) => proof)).size).toBe(5)
    expect(server.tokenRequests()).toEqual([])
  })

  test('a second demand is the answer (DP-06)', async () => {
    const { worker, calls, answers, server } = await signedIn()
    const headers = { 'www-authenticate': 'DPoP error="use_dpop_nonce"', 'dpop-nonce': 'n' }
    const demand = () => new Response('mine', { status: 401, headers })
    answers.push(demand, demand, demand)
    const response = await worker.fetch()
    expect([response.status, await response.text()]).toEqual([401, 'mine'])
    expect(calls).toHaveLength(2)
    expect(server.tokenRequests()).toEqual([])
  })

  test('a nonce that no header should carry is not taken, and the one before it stays', async () => {
    const { worker, calls, apiOptions } = await signedIn()
    apiOptions.headers = { 'dpop-nonce': 'good' }
    await worker.fetch()
    for (const nonce of ['x'.repeat(2_001), 'two words', '"']) {
      apiOptions.headers = { 'dpop-nonce': nonce }
      expect((await worker.fetch()).status).toBe(200)
      expect(calls.at(-1)?.checked?.claims['nonce']).toBe('good')
    }
    apiOptions.headers = { 'dpop-nonce': 'x'.repeat(2_000) }
    await worker.fetch()
    await worker.fetch()
    expect(calls.at(-1)?.checked?.claims['nonce']).toHaveLength(2_000)
  })

  test('each origin has its own nonce, and the newest one wins, from any answer (DP-07)', async () => {
    const apis = ['https://api.example/', 'https://api.other.example/']
    const { worker, calls, apiOptions } = await signedIn({ options: { apis } })
    const nonceOf = async (url: string) => {
      await worker.fetch({}, url)
      return calls.at(-1)?.checked?.claims['nonce']
    }
    apiOptions.headers = { 'dpop-nonce': 'one' }
    expect(await nonceOf('https://api.example/a')).toBe(undefined)
    apiOptions.headers = { 'dpop-nonce': 'two' }
    expect(await nonceOf('https://api.other.example/a')).toBe(undefined)
    apiOptions.headers = { 'dpop-nonce': 'three' }
    expect(await nonceOf('https://api.example/b')).toBe('one')
    apiOptions.headers = {}
    expect(await nonceOf('https://api.example/c')).toBe('three')
    expect(await nonceOf('https://api.other.example/b')).toBe('two')
  })

  test('a nonce in an answer to a request that other code has sent is used, too', async () => {
    const { worker, calls, apiOptions } = await signedIn()
    apiOptions.headers = { 'dpop-nonce': 'one' }
    expect((await worker.sendItself('https://api.example/a')).status).toBe(200)
    expect((await worker.sendItself('https://api.example/b')).status).toBe(200)
    expect(calls.map(({ checked }) => checked?.claims['nonce'])).toEqual([undefined, 'one'])
  })

  test('an answer whose challenge is hidden but not its nonce is understood (DP-06)', async () => {
    const api = { nonce: 'n', hidden: ['www-authenticate'] }
    const { worker, calls, server } = await signedIn({ api })
    expect((await worker.fetch()).status).toBe(200)
    expect(calls).toHaveLength(2)
    expect(server.tokenRequests()).toEqual([])
  })

  test('where CORS hides both, there is one more request, and the remedy (DP-06)', async () => {
    const api = { nonce: 'n', hidden: ['www-authenticate', 'dpop-nonce'] }
    const { worker, calls, server } = await signedIn({ api })
    expect((await worker.fetch()).status).toBe(401)
    expect(calls).toHaveLength(2)
    expect(worker.problems()).toEqual(['cors_expose_headers'])
    // What cannot be read looks like an expired token; not each time.
    expect((await worker.fetch()).status).toBe(401)
    expect(calls).toHaveLength(3)
    expect(server.tokenRequests()).toHaveLength(1)
    expect(worker.problems()).toHaveLength(1)
  })

  test('where CORS hides the nonce alone, the answer is handed through at once (DP-06)', async () => {
    const api = { nonce: 'n', hidden: ['dpop-nonce'] }
    const { worker, calls, server } = await signedIn({ api })
    expect((await worker.fetch()).status).toBe(401)
    expect(calls).toHaveLength(1)
    expect(worker.problems()).toEqual(['cors_expose_headers'])
    expect(server.tokenRequests()).toEqual([])
  })

  test('an expired token is renewed, with a new proof for the second request (RF-15, DP-02)', async () => {
    const { worker, calls, answers } = await signedIn()
    const headers = { 'www-authenticate': 'DPoP error="invalid_token"' }
    answers.push(() => new Response(null, { status: 401, headers }))
    expect((await worker.fetch()).status).toBe(200)
    expect(calls).toHaveLength(2)
    expect(calls[0]?.authorization).not.toBe(calls[1]?.authorization)
    expect(calls[0]?.proof).not.toBe(calls[1]?.proof)
  })

  test('a body that was used up is not sent again (DP-06)', async () => {
    const { worker, calls } = await signedIn({ api: { nonce: 'n' } })
    const request = new Request(api, { method: 'POST', body: 'x' })
    request.clone = () => {
      throw new TypeError('Body is already used')
    }
    const response = await worker.send(request)
    expect(response.status).toBe(401)
    expect(calls).toHaveLength(1)
  })

  test('a wrong clock is made up for where the API tells its own (DP-13)', async () => {
    const ahead = 9 * 60_000
    const { worker, calls } = await signedIn({ api: { ahead } })
    expect((await worker.fetch()).status).toBe(200)
    expect(calls).toHaveLength(2)
    expect((await worker.fetch()).status).toBe(200)
    expect(calls).toHaveLength(3)
  })

  test('a slow answer is not taken for a wrong clock (DP-13)', async () => {
    const { worker, calls, answers, browser } = await signedIn()
    answers.push(() => {
      const headers = {
        'www-authenticate': 'DPoP error="invalid_dpop_proof"',
        date: new Date(browser.now()).toUTCString(),
      }
      browser.setClock(8_000)
      return new Response(null, { status: 401, headers })
    })
    expect((await worker.fetch({ method: 'POST', body: 'an order' })).status).toBe(401)
    expect(calls).toHaveLength(1)
  })

  test('more than ten minutes are for the user to set right (DP-13)', async () => {
    const { worker, calls } = await signedIn({ api: { ahead: 11 * 60_000 } })
    for (let i = 0; i < 3; i++) expect((await worker.fetch()).status).toBe(401)
    expect(calls).toHaveLength(3)
    expect(worker.problems()).toEqual(['clock'])
  })

  test.each([
    ['the clocks agree', {}],
    ['CORS hides the Date header', { hidden: ['date'], ahead: 9 * 60_000 }],
  ])(
    'a proof that is refused although %s may have been taken before: not again (DP-13)',
    async (_, more) => {
      const { worker, calls, answers } = await signedIn({ api: more })
      if (!('ahead' in more)) {
        const headers = { 'www-authenticate': 'DPoP error="invalid_dpop_proof"' }
        answers.push(() => new Response(null, { status: 401, headers }))
      }
      expect((await worker.fetch({ method: 'POST', body: 'an order' })).status).toBe(401)
      expect(calls).toHaveLength(1)
    },
  )
})

describe('a page', () => {
  test('gets no key, proof or nonce by any call, and no call makes a proof (BR-04)', async () => {
    const { worker, server } = await signedIn({ server: { dpop: { nonce: 'the-nonce' } } })
    const { jkt, jwk } = await worker.keyOf()
    let signed = 0
    const { sign } = crypto.subtle
    crypto.subtle.sign = (...args: Parameters<typeof sign>) => {
      signed++
      return sign.apply(crypto.subtle, args)
    }
    const told: unknown[] = []
    try {
      const { renew, ...others } = worker.pageCalls
      for (const [name, call] of Object.entries(others)) {
        // Whatever a page can make up.
        const input = {
          protocol: 1,
          returnTo: app,
          url: api,
          params: {},
          method: 'GET',
          local: true,
        }
        if (name !== 'checkSession') {
          told.push(await (call as (input: unknown) => unknown)(input))
        }
      }
      expect(signed).toBe(0)
      await worker.signIn()
      await renew()
    } finally {
      crypto.subtle.sign = sign
    }
    const all = JSON.stringify([told, worker.events])
    const proofs = server.proofs.map(({ jti }) => jti)
    for (const secret of [jkt, jwk.x, jwk.y, 'the-nonce', ...proofs, ...server.secrets]) {
      if (secret) expect(all).not.toContain(secret)
    }
  })
})
