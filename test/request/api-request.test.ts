import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { TokenError } from '../../src/shared/errors.js'
import type { WireEvent } from '../../src/shared/protocol.js'
import { arrivalOf } from '../../sw/http/arrival.js'
import { attach as attachTo } from '../../sw/offline/attached-request.js'
import { createApiRequest } from '../../sw/request/api-request.js'
import type { ApiRule } from '../../sw/request/intercept.js'
import type { AccessToken } from '../../sw/token/access-token.js'
import type { TokenResult } from '../../sw/token/token-result.js'
import type { TraceStep } from '../../sw/trace.js'
import { createFakeBrowser, fakePage } from '../support/fake-platform.js'

const api = 'https://api.example/orders'
const rule: ApiRule = { origin: 'https://api.example', segments: [], unauthenticated: 'pass' }

const token = (accessToken = 'token-1', owner = 'alice'): TokenResult => ({
  kind: 'token',
  accessToken,
  owner,
})
const signedIn = token() as TokenResult & { kind: 'token' }
const unavailable: TokenResult = {
  kind: 'unavailable',
  error: new TokenError('offline', 'There is no network.'),
}
const never = () => new Promise<never>(() => {})

interface Sent {
  request: Request
  init: RequestInit | undefined
  authorization: string | null
  body: string
}

type Answer = Response | (() => Response | Promise<Response>)

const createWorld = ({
  peek = token(),
  get = async () => token(),
  renew = async () => token('token-2'),
  answers = [],
  endpoint,
  cancelled,
}: {
  peek?: TokenResult | undefined | null
  get?: AccessToken['get']
  renew?: (spoiled: string | undefined) => Promise<TokenResult>
  answers?: Answer[]
  endpoint?: string
  /** What the page cancels the request with, where it can. */
  cancelled?: AbortController
} = {}) => {
  const browser = createFakeBrowser()
  browser.pages.push(fakePage({ id: 'page-1' }))
  const sent: Sent[] = []
  const steps: Omit<TraceStep, 'at'>[] = []
  const kept: Promise<unknown>[] = []
  const told: WireEvent[] = []
  const renewed = vi.fn(renew)
  const platform = browser.platform(async (input, init) => {
    const request = input as Request
    const authorization = new Headers(init?.headers ?? request.headers).get('authorization')
    // What the network does to a body: it is used up.
    sent.push({ request, init, authorization, body: await request.text() })
    init?.signal?.throwIfAborted()
    const answer = answers.shift() ?? new Response('ok')
    return answer instanceof Response ? answer : await answer()
  })
  const apiRequest = createApiRequest({
    accessToken: { peek: () => peek ?? undefined, get: vi.fn(get) },
    renewal: { renew: ({ spoiled }) => renewed(spoiled) },
    endpoints: {
      includes: ({ href }) => href === endpoint,
      answer: async () => new Response(null, { status: 403 }),
    },
    platform,
    publish: async (event) => void told.push(event),
    note: (step, more) => steps.push({ step, ...more }),
  })
  const context = {
    clientId: 'page-1',
    keepAlive: (work: Promise<unknown>) => void kept.push(work),
  }
  const begin = (request: Request, more: Partial<typeof context> & { rule?: ApiRule } = {}) => {
    const arrival = arrivalOf(request, { waitUntil: () => {} }, { cancelled: cancelled?.signal })
    const { rule: ownRule = rule, ...own } = more
    return apiRequest({ ...arrival, ...context, ...own }, ownRule)
  }
  const send = async (...input: Parameters<typeof begin>) => (await begin(...input).send()).response
  return {
    browser,
    sent,
    steps,
    kept,
    told,
    renewed,
    fetch: (init: RequestInit = {}, more: Partial<typeof context> & { rule?: ApiRule } = {}) =>
      send(new Request(api, init), more),
    begin: (request: Request) => begin(request),
    fetchRequest: (request: Request) => send(request),
  }
}

const unauthorized = (challenge?: string) =>
  new Response('no', {
    status: 401,
    headers: challenge === undefined ? {} : { 'www-authenticate': challenge },
  })

describe('a request with a token', () => {
  test('is the request of the page, with one header more (IN-08)', async () => {
    const { sent, fetchRequest } = createWorld()
    const request = new Request(api, {
      method: 'PUT',
      headers: { 'x-own': '1', accept: 'text/plain' },
      body: 'the body',
      referrer: 'about:client',
      referrerPolicy: 'no-referrer',
    })
    await fetchRequest(request)
    expect(sent).toHaveLength(1)
    const [{ request: used, init, body }] = sent as [Sent]
    // The very request, so that everything else about it is the browser's own business.
    expect(used).toBe(request)
    const { headers: _, ...rest } = init ?? {}
    expect(rest).toEqual({ referrer: 'about:client', referrerPolicy: 'no-referrer' })
    expect(Object.fromEntries(new Headers(init?.headers))).toEqual({
      accept: 'text/plain',
      authorization: 'Bearer token-1',
      'content-type': 'text/plain;charset=UTF-8',
      'x-own': '1',
    })
    expect(body).toBe('the body')
  })

  test('keeps all that the page has said of it (IN-08)', { timeout: 30_000 }, async () => {
    const inits: fc.Arbitrary<RequestInit> = fc.record(
      {
        method: fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND'),
        credentials: fc.constantFrom('omit', 'same-origin', 'include'),
        cache: fc.constantFrom('default', 'no-store', 'reload', 'no-cache', 'force-cache'),
        redirect: fc.constantFrom('follow', 'error', 'manual'),
        referrer: fc.constantFrom('', 'about:client'),
        referrerPolicy: fc.constantFrom('', 'no-referrer', 'origin', 'same-origin', 'unsafe-url'),
        integrity: fc.constantFrom('', 'sha256-x'),
        keepalive: fc.boolean(),
        headers: fc.dictionary(fc.stringMatching(/^x-[a-z]{1,8}$/), fc.stringMatching(/^\w{0,8}$/)),
        body: fc.string(),
      },
      { requiredKeys: [] },
    )
    const same = [
      ...(['url', 'method', 'mode', 'credentials', 'redirect', 'referrer', 'keepalive'] as const),
      ...(['referrerPolicy', 'integrity'] as const),
    ]
    await fc.assert(
      fc.asyncProperty(inits, fc.boolean(), async ({ body, ...init }, reload) => {
        const { fetchRequest, sent } = createWorld({ peek: { ...signedIn, reload } })
        const hasBody = init.method !== undefined && !/^(GET|HEAD)$/.test(init.method)
        const original = new Request(api, { ...init, ...(hasBody && { body }) })
        await fetchRequest(original.clone())
        const [{ request, init: more, body: sentBody }] = sent as [Sent]
        expect(more).not.toHaveProperty('body')
        expect(more).not.toHaveProperty('redirect')
        expect(sentBody).toBe(hasBody ? (body ?? '') : '')
        for (const name of ['referrer', 'referrerPolicy'] as const) {
          expect(more?.[name]).toBe(original[name])
        }
        for (const name of same) expect(request[name], name).toBe(original[name])
        const { authorization, ...headers } = Object.fromEntries(new Headers(more?.headers))
        expect(authorization).toBe('Bearer token-1')
        expect(headers).toEqual(Object.fromEntries(original.headers))
        const expected = reload && original.cache !== 'no-store' ? 'reload' : original.cache
        expect(more?.cache ?? request.cache).toBe(expected)
      }),
      { numRuns: 60 },
    )
  })

  test('does not change the request of the page (IN-17)', async () => {
    const { fetchRequest } = createWorld()
    const request = new Request(api)
    await fetchRequest(request)
    expect(request.headers.has('authorization')).toBe(false)
  })

  test('hands the answer back unread (IN-15)', async () => {
    for (const answer of [
      new Response('x', { status: 206, headers: { 'content-range': 'bytes 0-0/1' } }),
      new Response(null, { status: 204 }),
      new Response(new ReadableStream(), { headers: { 'content-type': 'text/event-stream' } }),
      Response.error(),
    ]) {
      const { fetch } = createWorld({ answers: [answer] })
      expect(await fetch()).toBe(answer)
      expect(answer.bodyUsed).toBe(false)
    }
  })

  test('follows no redirect where its API says so, unless the page does not either (IN-10)', async () => {
    const strict: ApiRule = { ...rule, redirect: 'error' }
    for (const [redirect, expected] of [
      ['follow', 'error'],
      ['error', undefined],
      ['manual', undefined],
    ] as const) {
      const { fetch, sent } = createWorld({ answers: [unauthorized()] })
      await fetch({ redirect }, { rule: strict })
      expect(sent.map(({ init }) => init?.redirect)).toEqual([expected, expected])
    }
    const bare = createWorld({ peek: null, get: async () => ({ kind: 'signed-out' }) })
    await bare.fetch({}, { rule: strict })
    expect(bare.sent[0]?.init).toBeUndefined()
  })

  test('reads nothing from the cache after a change of users (IN-16)', async () => {
    const reload = { ...signedIn, reload: true }
    const renew = async () => ({ ...reload, accessToken: 'token-2' })
    for (const cache of ['default', 'no-cache', 'force-cache', 'reload', 'no-store'] as const) {
      const { fetch, sent } = createWorld({ peek: reload, renew, answers: [unauthorized()] })
      await fetch({ cache, referrerPolicy: 'origin' })
      // The retry, too; and what the page wants beyond that is kept.
      const expected = cache === 'no-store' ? undefined : 'reload'
      expect(sent.map(({ init }) => init?.cache)).toEqual([expected, expected])
      expect(sent[1]?.init).toMatchObject({ referrerPolicy: 'origin' })
    }
  })

  test('needs nothing but the network on the hot path', async () => {
    const get = vi.fn()
    const { fetch, browser, kept } = createWorld({ get })
    await fetch()
    expect(get).not.toHaveBeenCalled()
    expect(kept).toEqual([])
    expect(browser.timers()).toBe(0)
  })

  test('that fails on the way fails for the page, and is not sent again (RF-15)', async () => {
    const error = new TypeError('Failed to fetch')
    const { fetch, sent, renewed } = createWorld({ answers: [() => Promise.reject(error)] })
    await expect(fetch()).rejects.toBe(error)
    expect(sent).toHaveLength(1)
    expect(renewed).not.toHaveBeenCalled()
  })

  test('is told in steps without query, fragment and secrets (PV-01)', async () => {
    const { fetchRequest, steps } = createWorld()
    await fetchRequest(new Request(`${api}?code=secret#secret`, { method: 'POST', body: 'secret' }))
    expect(steps).toEqual([
      { step: 'request', request: 1, method: 'POST', url: api },
      { step: 'attached', request: 1 },
      { step: 'answered', request: 1, status: 200 },
    ])
  })
})

describe('a request without a token', () => {
  test('is sent without one where nobody is signed in (IN-12)', async () => {
    const { fetch, sent } = createWorld({ peek: null, get: async () => ({ kind: 'signed-out' }) })
    expect((await fetch()).status).toBe(200)
    expect(sent).toMatchObject([{ authorization: null, init: undefined }])
  })

  test('reads nothing from the cache where somebody was signed in before (IN-16)', async () => {
    const get = async (): Promise<TokenResult> => ({ kind: 'signed-out', reload: true })
    const { fetch, sent } = createWorld({ peek: null, get })
    await fetch({ referrerPolicy: 'origin' })
    await fetch({ cache: 'no-store', referrerPolicy: 'origin' })
    const referrer = { referrer: 'about:client', referrerPolicy: 'origin' }
    expect(sent.map(({ init }) => init)).toEqual([{ ...referrer, cache: 'reload' }, referrer])
    expect(sent[0]?.authorization).toBeNull()
  })

  test('fails where nobody is signed in and the API wants that (IN-12)', async () => {
    const { fetch, sent } = createWorld({ peek: null, get: async () => ({ kind: 'signed-out' }) })
    const response = await fetch({}, { rule: { ...rule, unauthenticated: 'fail' } })
    expect(response.type).toBe('error')
    expect(sent).toEqual([])
  })

  test('fails and is never sent bare, where somebody is signed in (IN-12, OF-03)', async () => {
    const { fetch, sent, steps } = createWorld({ peek: null, get: async () => unavailable })
    expect((await fetch()).type).toBe('error')
    expect(sent).toEqual([])
    expect(steps.at(-1)).toMatchObject({ step: 'failed', code: 'offline' })
  })

  test('waits for one, and for 30 s at most (IN-13)', async () => {
    const { browser, fetch, sent } = createWorld({ peek: null, get: never })
    let response: Response | undefined
    void fetch().then((answer) => {
      response = answer
    })
    await browser.pass(29_999)
    expect(response).toBeUndefined()
    await browser.pass(1)
    expect(response?.type).toBe('error')
    expect(sent).toEqual([])
    expect(browser.timers()).toBe(0)
  })

  test('does not wait if the page is being left (keepalive)', async () => {
    const asked: boolean[] = []
    const get: AccessToken['get'] = async ({ canWait }) => {
      asked.push(canWait)
      return token('an old one')
    }
    const { fetch, sent } = createWorld({ peek: null, get })
    await fetch({ keepalive: true })
    await fetch()
    expect(asked).toEqual([false, true])
    expect(sent[0]?.authorization).toBe('Bearer an old one')
  })

  test('fails where the database does', async () => {
    const error = new TokenError('storage_failed', 'No database.')
    const { fetch, sent } = createWorld({ peek: null, get: () => Promise.reject(error) })
    await expect(fetch()).rejects.toBe(error)
    expect(sent).toEqual([])
  })

  test('goes to an endpoint of the server that a new worker did not know yet, but no POST (IN-07)', async () => {
    const { fetch, sent } = createWorld({ peek: null, endpoint: api })
    await fetch()
    expect(sent).toMatchObject([{ authorization: null }])
    const refused = await fetch({ method: 'POST' })
    expect(refused.status).toBe(403)
    expect(sent).toHaveLength(1)
  })
})

describe('a 401', () => {
  test('is answered by one renewal and one retry (RF-15)', async () => {
    const { fetch, sent, renewed, kept, steps } = createWorld({ answers: [unauthorized()] })
    const response = await fetch()
    expect(await response.text()).toBe('ok')
    expect(renewed.mock.calls).toEqual([['token-1']])
    expect(sent.map(({ authorization }) => authorization)).toEqual([
      'Bearer token-1',
      'Bearer token-2',
    ])
    expect(kept).toHaveLength(1)
    expect(steps.map(({ step }) => step)).toEqual([
      ...['request', 'attached', 'unauthorized', 'retried', 'answered'],
    ])
  })

  test('to the retry is handed back as it is (RF-15, ER-04)', async () => {
    const second = unauthorized('Bearer realm="x"')
    const { fetch, sent, renewed } = createWorld({ answers: [unauthorized(), second] })
    expect(await fetch()).toBe(second)
    expect(sent).toHaveLength(2)
    expect(renewed).toHaveBeenCalledTimes(1)
  })

  test.each([
    [undefined, true],
    ['Bearer', true],
    ['Bearer realm="api"', true],
    ['Bearer error="invalid_token"', true],
    ['Bearer error="invalid_token", error_description="expired"', true],
    ['Bearer realm="a", error=invalid_token', true],
    ['bearer Error="invalid_token"', true],
    ['Bearer error_description="no error here"', true],
    ["Bearer error='invalid_token'", true],
    ['Bearer error="token_expired"', true],
    ['Bearer error=""', true],
    ['Basic realm="x", Bearer', true],
    ['Basic realm="x"', false],
    ['Bearer error="insufficient_scope", scope="admin"', false],
    ['Bearer error=insufficient_scope', false],
    ['Bearer error="insufficient_user_authentication", acr_values="2"', false],
    ['Bearer error="invalid_request"', false],
    ['DPoP error="use_dpop_nonce"', false],
  ])('with the challenge %j renews: %s (RF-17)', async (challenge, renews) => {
    const { fetch, sent, renewed } = createWorld({ answers: [unauthorized(challenge)] })
    const response = await fetch()
    expect(response.status).toBe(renews ? 200 : 401)
    expect(renewed).toHaveBeenCalledTimes(renews ? 1 : 0)
    expect(sent).toHaveLength(renews ? 2 : 1)
  })

  test.each([400, 402, 403, 404, 407, 419, 429, 500, 503])(
    'is not a %s (RF-17)',
    async (status) => {
      const answer = new Response('', {
        status,
        headers: { 'www-authenticate': 'Bearer error="invalid_token"' },
      })
      const { fetch, renewed } = createWorld({ answers: [answer] })
      expect(await fetch()).toBe(answer)
      expect(renewed).not.toHaveBeenCalled()
    },
  )

  test.each<[string, () => Promise<TokenResult>]>([
    ['no token is to be had', async () => unavailable],
    ['somebody else is signed in (SI-07)', async () => token('token-2', 'bob')],
  ])('becomes a network error where %s', async (_title, renew) => {
    const { fetch, sent } = createWorld({ answers: [unauthorized()], renew })
    expect((await fetch()).type).toBe('error')
    expect(sent).toHaveLength(1)
  })

  test('is handed back where the session has ended', async () => {
    const answer = unauthorized()
    const renew = async (): Promise<TokenResult> => ({ kind: 'signed-out' })
    const { fetch, sent } = createWorld({ answers: [answer], renew })
    expect(await fetch()).toBe(answer)
    expect(sent).toHaveLength(1)
  })

  test('becomes a network error after 30 s without a new token (IN-13)', async () => {
    const { browser, fetch, kept } = createWorld({ answers: [unauthorized()], renew: never })
    const response = fetch()
    await browser.pass(30_000)
    expect((await response).type).toBe('error')
    // The renewal itself goes on.
    expect(kept).toHaveLength(1)
  })

  test('after a wait for its first token has only the rest of the 30 s (IN-13)', async () => {
    const { browser, fetch, sent } = createWorld({
      peek: null,
      get: async () => {
        await browser.platform().wait(20_000)
        return token()
      },
      answers: [unauthorized()],
      renew: never,
    })
    let response: Response | undefined
    void fetch().then((answer) => {
      response = answer
    })
    await browser.pass(29_999)
    expect(sent).toHaveLength(1)
    expect(response).toBeUndefined()
    await browser.pass(1)
    expect(response?.type).toBe('error')
  })

  test('of an API that refuses every token causes a renewal every 30 s at most (RF-15)', async () => {
    let count = 1
    const { browser, fetch, renewed } = createWorld({
      peek: token('token-2'),
      renew: async () => token(count++ === 1 ? 'token-2' : 'token-3'),
      answers: Array.from({ length: 99 }, () => () => unauthorized()),
    })
    for (let round = 0; round < 10; round++) expect((await fetch()).status).toBe(401)
    expect(renewed).toHaveBeenCalledTimes(1)
    browser.setClock(29_999)
    await fetch()
    expect(renewed).toHaveBeenCalledTimes(1)
    browser.setClock(1)
    await fetch()
    expect(renewed).toHaveBeenCalledTimes(2)
  })

  test('with a code that nobody knows causes a renewal every 30 s at most, too', async () => {
    const { fetch, renewed } = createWorld({
      peek: token('token-2'),
      answers: Array.from({ length: 9 }, () => () => unauthorized('Bearer error="nope"')),
    })
    for (let round = 0; round < 5; round++) expect((await fetch()).status).toBe(401)
    expect(renewed).toHaveBeenCalledTimes(1)
  })

  test('of such an API does not keep another API from renewing', async () => {
    const { fetch, renewed } = createWorld({
      peek: token('token-2'),
      answers: Array.from({ length: 9 }, () => () => unauthorized()),
    })
    await fetch()
    await fetch({}, { rule: { ...rule, segments: ['other'] } })
    expect(renewed).toHaveBeenCalledTimes(2)
  })

  test('of 20 requests at the same time asks for a renewal of the same token', async () => {
    const { fetch, renewed } = createWorld({
      answers: Array.from({ length: 20 }, () => () => unauthorized()),
    })
    const responses = await Promise.all(Array.from({ length: 20 }, () => fetch()))
    for (const { status } of responses) expect(status).toBe(200)
    expect(new Set(renewed.mock.calls.map(([spoiled]) => spoiled))).toEqual(new Set(['token-1']))
  })
})

describe('a retry', () => {
  test.each(['POST', 'PUT', 'PATCH', 'DELETE'])(
    'of a %s sends the same body again (IN-14)',
    async (method) => {
      const { fetch, sent } = createWorld({ answers: [unauthorized()] })
      await fetch({ method, body: 'the body', headers: { 'x-own': '1' } })
      expect(sent.map(({ body }) => body)).toEqual(['the body', 'the body'])
      expect(sent.map(({ request }) => request.method)).toEqual([method, method])
      expect(sent.map(({ init }) => new Headers(init?.headers).get('x-own'))).toEqual(['1', '1'])
    },
  )

  test('of a POST without a body works too', async () => {
    const { fetch, sent } = createWorld({ answers: [unauthorized()] })
    expect((await fetch({ method: 'POST' })).status).toBe(200)
    expect(sent).toHaveLength(2)
  })

  test('copies nothing of a request that has no body', async () => {
    const { fetchRequest } = createWorld({ answers: [unauthorized()] })
    const request = new Request(api)
    const clone = vi.spyOn(request, 'clone')
    await fetchRequest(request)
    expect(clone).not.toHaveBeenCalled()
  })

  test('copies nothing of a POST without a body, or of one that is never sent again', async () => {
    for (const init of [{}, { body: 'x', keepalive: true }]) {
      const { fetchRequest } = createWorld({ answers: [unauthorized()] })
      const request = new Request(api, { method: 'POST', ...init })
      const clone = vi.spyOn(request, 'clone')
      await fetchRequest(request)
      expect(clone).not.toHaveBeenCalled()
    }
  })

  test('is not made of a body that cannot be copied (IN-14)', async () => {
    const answer = unauthorized()
    const { fetchRequest, sent, renewed } = createWorld({ answers: [answer] })
    const request = new Request(api, { method: 'POST', body: 'x' })
    vi.spyOn(request, 'clone').mockImplementation(() => {
      throw new TypeError('Body is unusable')
    })
    expect(await fetchRequest(request)).toBe(answer)
    expect(sent).toHaveLength(1)
    expect(renewed).not.toHaveBeenCalled()
  })

  test('is not made of a keepalive request: nobody waits for it (IN-14)', async () => {
    const answer = unauthorized()
    const { fetch, sent, renewed } = createWorld({ answers: [answer] })
    expect(await fetch({ keepalive: true })).toBe(answer)
    expect(sent).toHaveLength(1)
    expect(renewed).not.toHaveBeenCalled()
  })

  test('is not made once the page has given up (IN-14)', async () => {
    const answer = unauthorized()
    const abort = new AbortController()
    const renew = async () => {
      abort.abort()
      return token('token-2')
    }
    const { fetch, sent } = createWorld({ answers: [answer], renew })
    expect(await fetch({ signal: abort.signal })).toBe(answer)
    expect(sent).toHaveLength(1)
  })

  test('is not made once the page has cancelled it, and the renewal goes on (IN-14)', async () => {
    const cancelled = new AbortController()
    let isRenewed = false
    const renew = async () => {
      cancelled.abort()
      isRenewed = true
      return token('token-2')
    }
    const world = createWorld({ answers: [unauthorized()], renew, cancelled })
    expect((await world.fetch()).status).toBe(401)
    expect(isRenewed).toBe(true)
    expect(world.sent.map(({ init }) => init?.signal)).toEqual([cancelled.signal])
  })

  test('is not made once the page is gone (IN-14)', async () => {
    const world = createWorld({
      answers: [unauthorized()],
      renew: async () => {
        world.browser.pages[0]!.closed = true
        return token('token-2')
      },
    })
    expect((await world.fetch()).status).toBe(401)
    expect(world.sent).toHaveLength(1)
  })

  test('is made for a sender that nobody knows', async () => {
    const { fetch, sent } = createWorld({ answers: [unauthorized()] })
    expect((await fetch({}, { clientId: '' })).status).toBe(200)
    expect(sent).toHaveLength(2)
  })
})

describe('an API that asks for a stronger sign-in', () => {
  const stepUp = () =>
    unauthorized('Bearer error="insufficient_user_authentication", acr_values="gold", max_age=5')
  const params = { acr_values: 'gold', max_age: '5' }
  const event = { type: 'step-up', wants: 'authentication', params }

  test('is answered by an event; its answer goes to the page (RF-17, ER-04)', async () => {
    const answer = stepUp()
    const { fetch, told, renewed, sent } = createWorld({ answers: [answer] })
    expect(await fetch()).toBe(answer)
    expect(told).toEqual([event])
    expect(renewed).not.toHaveBeenCalled()
    expect(sent).toHaveLength(1)
  })

  test('or for more scope does so with a 403, too (RF-17)', async () => {
    const headers = { 'www-authenticate': 'Bearer error="insufficient_scope", scope="admin"' }
    const answer = new Response('{}', { status: 403, headers })
    const { fetch, told, renewed } = createWorld({ answers: [answer] })
    expect(await fetch()).toBe(answer)
    expect(told).toEqual([{ type: 'step-up', wants: 'scope', scope: 'admin', params: {} }])
    expect(renewed).not.toHaveBeenCalled()
  })

  test('is heard once for each token and wish (RF-17)', async () => {
    let current = token()
    const { fetch, told } = createWorld({
      get: async () => current,
      peek: null,
      answers: [
        stepUp,
        stepUp,
        () => unauthorized('Bearer error="insufficient_scope"'),
        stepUp,
        stepUp,
      ],
    })
    await Promise.all([fetch(), fetch(), fetch(), fetch()])
    expect(told).toHaveLength(2)
    current = token('token-9')
    await fetch()
    await fetch()
    expect(told).toHaveLength(3)
  })

  test('and invents another wish each time is heard ten times for one token', async () => {
    let wish = 0
    let current = token()
    const error = 'Bearer error="insufficient_user_authentication"'
    const { fetch, told } = createWorld({
      get: async () => current,
      peek: null,
      answers: Array.from(
        { length: 60 },
        () => () => unauthorized(`${error}, acr_values="${wish++}"`),
      ),
    })
    for (let round = 0; round < 30; round++) await fetch()
    expect(told).toHaveLength(10)
    current = token('token-9')
    for (let round = 0; round < 30; round++) await fetch()
    expect(told).toHaveLength(20)
  })

  test('is heard in the answer to the retry, too (RF-17)', async () => {
    const { fetch, told } = createWorld({ answers: [unauthorized(), stepUp()] })
    expect((await fetch()).status).toBe(401)
    expect(told).toEqual([event])
  })

  test('and meets a request without a token is not heard', async () => {
    const { fetch, told } = createWorld({
      peek: null,
      get: async () => ({ kind: 'signed-out' }),
      answers: [stepUp()],
    })
    await fetch()
    expect(told).toEqual([])
  })
})

describe('an API that says that a token has expired in a 200', () => {
  const isExpired = async (response: Response) => (await response.text()) === 'expired'
  const expiring = { ...rule, expired: isExpired }
  const expired = () => new Response('expired')

  test('has the token renewed and the request sent once more', async () => {
    const { fetch, sent } = createWorld({ answers: [expired(), new Response('data')] })
    const response = await fetch({}, { rule: expiring })
    expect(await response.text()).toBe('data')
    expect(sent.map(({ authorization }) => authorization)).toEqual([
      'Bearer token-1',
      'Bearer token-2',
    ])
  })

  test('and says so of every token has one renewal every 30 s at most', async () => {
    const { fetch, sent, renewed } = createWorld({ answers: [expired(), expired(), expired()] })
    expect(await (await fetch({}, { rule: expiring })).text()).toBe('expired')
    expect(await (await fetch({}, { rule: expiring })).text()).toBe('expired')
    expect(sent).toHaveLength(3)
    expect(renewed).toHaveBeenCalledTimes(1)
  })

  test('gives its other answers to the page, unread', async () => {
    const { fetch, sent } = createWorld({ answers: [new Response('data')] })
    const response = await fetch({}, { rule: expiring })
    expect(response.bodyUsed).toBe(false)
    expect(await response.text()).toBe('data')
    expect(sent).toHaveLength(1)
  })

  test('keeps no copy of what it has not read', async () => {
    const parts = ['one ', 'two ', 'three']
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        const part = parts.shift()
        if (part === undefined) controller.close()
        else controller.enqueue(new TextEncoder().encode(part))
      },
    })
    for (const read of [false, true]) {
      let copy: Response | undefined
      const check = async (response: Response) => {
        copy = response
        if (read) await response.body?.getReader().read()
        return false
      }
      const { fetch } = createWorld({ answers: [read ? new Response('data') : new Response(body)] })
      const response = await fetch({}, { rule: { ...rule, expired: check } })
      expect(await response.text()).toBe(read ? 'data' : 'one two three')
      expect(copy?.bodyUsed).toBe(true)
    }
  })

  test('and whose check throws keeps no copy either', async () => {
    let copy: Response | undefined
    const check = (response: Response) => {
      copy = response
      throw new Error('no JSON')
    }
    const { fetch } = createWorld({ answers: [new Response('data')] })
    expect(await (await fetch({}, { rule: { ...rule, expired: check } })).text()).toBe('data')
    expect(copy?.bodyUsed).toBe(true)
  })

  test('is not asked about event streams, which have no end', async () => {
    const asked = vi.fn(() => true)
    const headers = { 'content-type': 'text/event-stream; charset=utf-8' }
    const answer = new Response(new ReadableStream(), { headers })
    const { fetch } = createWorld({ answers: [answer] })
    expect(await fetch({}, { rule: { ...rule, expired: asked } })).toBe(answer)
    expect(asked).not.toHaveBeenCalled()
  })

  test('is believed without being asked for a 401', async () => {
    const asked = vi.fn(() => false)
    const { fetch, sent } = createWorld({ answers: [unauthorized()] })
    await fetch({}, { rule: { ...rule, expired: asked } })
    expect(sent).toHaveLength(2)
    // For the answer to the retry, which is no 401.
    expect(asked).toHaveBeenCalledTimes(1)
  })

  test('whose check throws: the page gets the answer, and pages are told once', async () => {
    const { fetch, told } = createWorld({ answers: [new Response('one'), new Response('two')] })
    const broken = {
      ...rule,
      expired: () => {
        throw new Error('no JSON')
      },
    }
    expect(await (await fetch({}, { rule: broken })).text()).toBe('one')
    expect(await (await fetch({}, { rule: broken })).text()).toBe('two')
    expect(told).toEqual([
      {
        type: 'problem',
        error: expect.objectContaining({
          code: 'invalid_configuration',
          message: expect.stringContaining('no JSON'),
        }),
      },
    ])
  })
})

describe('a request that other code sends', () => {
  const attach = async (world: ReturnType<typeof createWorld>, init: RequestInit = {}) => {
    const request = new Request(api, init)
    return await attachTo(world.begin(request), request)
  }

  test('has its token, and is the request of the page otherwise (IN-08)', async () => {
    const { owner, request } = await attach(createWorld(), {
      method: 'POST',
      body: 'the body',
      headers: { 'x-own': '1' },
      referrerPolicy: 'no-referrer',
    })
    expect(Object.fromEntries(request.headers)).toEqual({
      'content-type': 'text/plain;charset=UTF-8',
      'x-own': '1',
      authorization: 'Bearer token-1',
    })
    expect(request.referrerPolicy).toBe('no-referrer')
    expect(await request.text()).toBe('the body')
    expect(owner).toBe('alice')
  })

  test('is bare where nobody is signed in, and its 401 stands (IN-12)', async () => {
    const world = createWorld({ peek: null, get: async () => ({ kind: 'signed-out' }) })
    const { owner, settle, request } = await attach(world)
    expect(request.headers.has('authorization')).toBe(false)
    expect(owner).toBeUndefined()
    expect((await settle(unauthorized(), request)).status).toBe(401)
    expect(world.sent).toEqual([])
  })

  test('is none where there is no token now: it is never bare then (IN-12, OF-03)', async () => {
    const world = createWorld({ peek: null, get: async () => unavailable })
    await expect(attach(world)).rejects.toThrow(TypeError)
  })

  test('is cancelled with the page, bare too; unlike offline, it is not to be kept (IN-14)', async () => {
    for (const get of [async () => token(), async () => ({ kind: 'signed-out' }) as const]) {
      const cancelled = new AbortController()
      const { request } = await attach(createWorld({ peek: null, get, cancelled }))
      expect(request.signal.aborted).toBe(false)
      cancelled.abort()
      expect(request.signal.aborted).toBe(true)
    }
    const cancelled = new AbortController()
    const get = async () => {
      cancelled.abort()
      return unavailable
    }
    const world = createWorld({ peek: null, get, cancelled })
    await expect(attach(world)).rejects.toMatchObject({ name: 'AbortError' })
    await expect(world.fetch()).rejects.toMatchObject({ name: 'AbortError' })
    expect(world.sent).toEqual([])
  })

  test('after a 401 is sent once more, with a new token (RF-15)', async () => {
    const world = createWorld({ answers: [new Response('data')] })
    const { settle, request } = await attach(world)
    const response = await settle(unauthorized(), request)
    expect(await response.text()).toBe('data')
    expect(world.sent.map(({ authorization }) => authorization)).toEqual(['Bearer token-2'])
  })

  test('keeps every other answer', async () => {
    const world = createWorld()
    const { settle, request } = await attach(world)
    const response = new Response('forbidden', { status: 403 })
    expect(await settle(response, request)).toBe(response)
    expect(world.sent).toEqual([])
  })
})
