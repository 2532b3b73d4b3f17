import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { startApi } from '../../demo/api.mjs'
import { close, listen, originOf } from '../../demo/site.mjs'
import { anyServer } from '../support/strict-policy.js'
import {
  eventsOf,
  fetchIn,
  movableClock,
  openApp,
  openSignedIn,
  refreshesAt,
  requestsTo,
  shiftClock,
  stopWorkers,
  useWorld,
} from '../support/world.js'

const world = useWorld({
  beforeWorker: movableClock,
  // A listener after ours hears of the requests that ours has left alone.
  afterWorker: `
    const leftAlone = []
    addEventListener('fetch', ({ request }) => leftAlone.push(request.url))
    addEventListener('message', ({ data, ports }) => {
      if (data === 'leftAlone') ports[0].postMessage(leftAlone)
    })`,
})
/** An API that the worker knows nothing of. */
let stranger: Awaited<ReturnType<typeof startApi>>

beforeAll(async () => {
  stranger = await startApi({
    origins: [world.site.origin],
    verify: world.as.verifyAccessToken,
  })
})
afterEach(() => stranger.clearRequests())
afterAll(() => stranger.close())

/** The URLs that the token worker has declined. */
const leftAlone = (page: Page): Promise<string[]> =>
  page.evaluate(
    () =>
      new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel()
        port1.onmessage = ({ data }) => resolve(data)
        navigator.serviceWorker.controller?.postMessage('leftAlone', [port2])
      }),
  )

describe('the request arrives as the page made it', () => {
  test('every method, with a body and without (IN-08)', async () => {
    const page = await openSignedIn(world)
    const body = JSON.stringify({ item: 'Käse' })
    const headers = { 'content-type': 'application/json' }
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
      const answer = await fetchIn(page, `${world.api.url}/orders/1`, { method, body, headers })
      const size = Buffer.byteLength(body)
      const echo = { method, path: '/orders/1', size, body: { item: 'Käse' } }
      expect(answer).toEqual({ status: 200, body: echo })
    }
    const head = await fetchIn(page, `${world.api.url}/orders`, { method: 'HEAD' })
    expect(head).toEqual({ status: 200, body: '' })
    const deleted = await fetchIn(page, `${world.api.url}/orders/1`, { method: 'DELETE' })
    expect(deleted).toMatchObject({ status: 200, body: { method: 'DELETE', size: 0 } })
  })

  test('a megabyte as string, Blob, ArrayBuffer and form, whole (IN-08)', async () => {
    const page = await openSignedIn(world)
    const text = '0123456789abcde\n'.repeat(65_536)
    const answers = await page.evaluate(
      async ([url, text]) => {
        const form = new FormData()
        form.append('file', new Blob([text]), 'file.txt')
        const bodies = [text, new Blob([text]), new TextEncoder().encode(text), form]
        return await Promise.all(
          bodies.map(async (body) => (await fetch(url, { method: 'POST', body })).json()),
        )
      },
      [`${world.api.url}/upload`, text] as const,
    )
    const whole = {
      size: text.length,
      sha256: createHash('sha256').update(text).digest('hex'),
    }
    expect(answers.slice(0, 3)).toEqual([whole, whole, whole])
    expect(answers[3].size).toBeGreaterThan(text.length)
  })

  const pick = (headers: Record<string, unknown> = {}) => {
    // The cookies of the authorization server are on localhost too; they come and go.
    const cookies = String(headers['cookie'] ?? '').split('; ')
    const { authorization: _, cookie: __, ...all } = headers
    // Chromium sends no client hints with what any worker fetches.
    const rest = Object.fromEntries(
      Object.entries(all).filter(([name]) => !name.startsWith('sec-ch-ua')),
    )
    return { ...rest, cookie: cookies.filter((cookie) => cookie.startsWith('flavour')) }
  }

  /** The request as it reached the API from this page. */
  const received = async (page: Page, url: string, init: RequestInit) => {
    world.api.clearRequests()
    await page.evaluate(() => {
      // biome-ignore lint/suspicious/noDocumentCookie: this is how a page does it everywhere
      document.cookie = 'flavour=oat'
    })
    await fetchIn(page, url, init)
    const requests = world.api.requests.filter(({ method }) => method !== 'OPTIONS')
    return requests.map(({ method, path, query, headers }) => ({
      method,
      path,
      query,
      headers: pick(headers),
    }))
  }

  const inits: [what: string, init: RequestInit][] = [
    ['nothing said', {}],
    ['credentials: include', { credentials: 'include' }],
    ['credentials: omit', { credentials: 'omit' }],
    ['cache: no-store', { cache: 'no-store' }],
    ['cache: no-cache', { cache: 'no-cache' }],
    ['cache: reload', { cache: 'reload' }],
    ['cache: force-cache', { cache: 'force-cache' }],
    ['referrer: none', { referrer: '' }],
    ['referrer: another page', { referrer: '/other', referrerPolicy: 'unsafe-url' }],
    ['referrerPolicy: no-referrer', { referrerPolicy: 'no-referrer' }],
    ['referrerPolicy: origin', { referrerPolicy: 'origin' }],
    ['referrerPolicy: same-origin', { referrerPolicy: 'same-origin' }],
    ['referrerPolicy: unsafe-url', { referrerPolicy: 'unsafe-url' }],
    ['keepalive', { method: 'POST', body: 'last words', keepalive: true }],
    ['priority', { priority: 'low' }],
    ['own headers', { headers: { 'x-one': '1', accept: 'text/plain', range: 'bytes=0-9' } }],
    ['a form', { method: 'POST', body: new URLSearchParams({ a: 'b' }).toString() }],
  ]

  test('credentials, cache, referrer, policy, headers: as without a worker (IN-08)', async () => {
    const page = await openSignedIn(world)
    const context = await world.newProfile({ serviceWorkers: 'block' })
    const bare = await context.newPage()
    await bare.goto(world.url)
    const url = `${world.api.url}/echo?q=1`
    for (const [what, init] of inits) {
      const without = await received(bare, url, init)
      const withWorker = await received(page, url, init)
      expect(without, what).toHaveLength(1)
      expect(withWorker, what).toEqual(without)
    }
  })

  test("the document's own referrer policy is kept (IN-08)", async () => {
    world.usePolicy({ more: { 'referrer-policy': 'no-referrer' } })
    const page = await openSignedIn(world)
    await fetchIn(page, `${world.api.url}/echo`)
    expect(requestsTo(world.api, '/echo')).toMatchObject([
      { authorization: 'bearer', referrer: undefined },
    ])
  })

  test('redirect: follow, error and manual are kept (IN-08, IN-15)', async () => {
    const page = await openSignedIn(world)
    const answers = await page.evaluate(
      (url) =>
        Promise.all(
          (['follow', 'error', 'manual'] as const).map(async (redirect) => {
            try {
              const response = await fetch(url, { redirect })
              const { type, status, redirected } = response
              return { type, status, redirected, url: response.url }
            } catch (error) {
              return (error as Error).name
            }
          }),
        ),
      `${world.api.url}/redirect?to=/orders`,
    )
    expect(answers).toEqual([
      { type: 'cors', status: 200, redirected: true, url: `${world.api.url}/orders` },
      'TypeError',
      {
        type: 'opaqueredirect',
        status: 0,
        redirected: false,
        url: `${world.api.url}/redirect?to=/orders`,
      },
    ])
  })

  test('integrity is checked (IN-08)', async () => {
    const page = await openSignedIn(world)
    const url = `${world.api.url}/orders`
    const bytes = JSON.stringify((await fetchIn(page, url)).body)
    const integrity = `sha256-${createHash('sha256').update(bytes).digest('base64')}`
    expect(await fetchIn(page, url, { integrity })).toMatchObject({ status: 200 })
    const wrong = `sha256-${createHash('sha256').update('other').digest('base64')}`
    expect(await fetchIn(page, url, { integrity: wrong })).toEqual({ error: 'TypeError' })
  })

  test('a signal aborts the answer, and the API learns of it (IN-08)', async () => {
    const page = await openSignedIn(world)
    const error = await page.evaluate(async (url) => {
      const controller = new AbortController()
      const response = await fetch(url, { signal: controller.signal })
      const reader = response.body?.getReader()
      await reader?.read()
      controller.abort()
      return await reader?.read().catch((error) => error.name)
    }, `${world.api.url}/stream?count=1000000&ms=5`)
    expect(error).toBe('AbortError')
    await world.api.waitForRequest(({ path, status }) => path === '/stream' && status === 200)
  })

  test('a signal aborts the request before there is an answer (IN-08)', async () => {
    const page = await openSignedIn(world)
    const arrived = world.api.waitForRequest(
      ({ path, method }) => path === '/slow' && method !== 'OPTIONS',
    )
    const error = page.evaluate(async (url) => {
      const controller = new AbortController()
      Object.assign(window, { controller })
      return await fetch(url, { signal: controller.signal }).catch((error) => error.name)
    }, `${world.api.url}/slow?ms=500`)
    await arrived
    await page.evaluate(() =>
      (window as unknown as { controller: AbortController }).controller.abort(),
    )
    expect(await error).toBe('AbortError')
  })
})

describe('the answer arrives as the API gave it', () => {
  test('EventSource, event by event while the stream is open (IN-15, IN-23)', async () => {
    const page = await openSignedIn(world)
    const numbers = await page.evaluate(
      (url) =>
        new Promise((resolve) => {
          const seen: number[] = []
          const source = new EventSource(url)
          Object.assign(window, { source })
          source.onmessage = ({ data }) => {
            seen.push(JSON.parse(data).number)
            if (seen.length === 3) resolve(seen)
          }
        }),
      `${world.api.url}/stream?count=1000000&ms=5`,
    )
    expect(numbers).toEqual([1, 2, 3])
    const [request] = requestsTo(world.api, '/stream')
    expect(request).toMatchObject({ authorization: 'bearer', status: undefined })
    // Closing it closes the connection to the API.
    await page.evaluate(() => (window as unknown as { source: EventSource }).source.close())
    await world.api.waitForRequest(({ path, status }) => path === '/stream' && status === 200)
  })

  test('part of a file: 206 with its range (IN-15)', async () => {
    const page = await openSignedIn(world)
    const answer = await page.evaluate(async (url) => {
      const response = await fetch(url, { headers: { range: 'bytes=16-31' } })
      const range = response.headers.get('content-range')
      return { status: response.status, range, text: await response.text() }
    }, `${world.api.url}/range`)
    expect(answer).toEqual({
      status: 206,
      range: 'bytes 16-31/1048576',
      text: '0123456789abcdef',
    })
  })

  test('403 and 404 with their bodies and headers (ER-04)', async () => {
    const page = await openSignedIn(world)
    const answer = await page.evaluate(async (url) => {
      const response = await fetch(url)
      const headers = ['content-type', 'www-authenticate'].map((name) => response.headers.get(name))
      return { status: response.status, headers, body: await response.json() }
    }, `${world.api.url}/forbidden`)
    expect(answer).toEqual({
      status: 403,
      headers: ['application/problem+json', 'Bearer error="insufficient_scope"'],
      body: { status: 403, detail: 'insufficient_scope' },
    })
    expect(await fetchIn(page, `${world.api.url}/nothing`)).toEqual({
      status: 404,
      body: { status: 404, detail: 'No such resource' },
    })
    expect(refreshesAt(world.as)).toEqual([])
  })

  test('500, and a connection that is cut, without a second try (ER-04)', async () => {
    world.usePolicy(anyServer)
    const seen: string[] = []
    const server = createServer((request, response) => {
      response.setHeader('access-control-allow-origin', world.site.origin)
      response.setHeader('access-control-allow-headers', 'authorization')
      // On a connection that was used before, the browser itself would send a lost request again.
      response.setHeader('connection', 'close')
      if (request.method === 'OPTIONS') return response.writeHead(204).end()
      seen.push(`${request.method} ${request.url}`)
      if (request.url === '/cut') return request.socket.destroy()
      return response.writeHead(500).end('<h1>Stack trace</h1>')
    })
    await listen(server, 0, 'localhost')
    const url = originOf(server, 'localhost')
    try {
      world.useWorker(`apis: ['${url}']`)
      const page = await openSignedIn(world)
      const broken = await fetchIn(page, `${url}/broken`)
      expect(broken).toEqual({ status: 500, body: '<h1>Stack trace</h1>' })
      expect(await fetchIn(page, `${url}/cut`, { method: 'POST' })).toEqual({ error: 'TypeError' })
      expect(seen).toEqual(['GET /broken', 'POST /cut'])
      expect(refreshesAt(world.as)).toEqual([])
    } finally {
      await close(server)
    }
  })

  test('an opaque answer stays opaque, and the request bare (IN-03, IN-15)', async () => {
    const page = await openSignedIn(world)
    const type = await page.evaluate(
      async (url) => (await fetch(url, { mode: 'no-cors' })).type,
      `${world.api.url}/open`,
    )
    expect(type).toBe('opaque')
    expect(requestsTo(world.api, '/open')).toMatchObject([{ authorization: 'none' }])
  })
})

describe('a redirect', () => {
  test('to another origin never carries the token, by any status or method (IN-10)', async () => {
    // An origin that notes everything it gets, and lets the browser send it everything.
    const seen: { method?: string; headers: NodeJS.Dict<string | string[]> }[] = []
    world.usePolicy(anyServer)
    const evil = createServer(({ method, headers }, response) => {
      seen.push({ method, headers })
      const origin = headers.origin ?? '*'
      response.setHeader('access-control-allow-origin', origin)
      response.setHeader('access-control-allow-credentials', 'true')
      response.setHeader('access-control-allow-headers', 'authorization, dpop, content-type')
      response.setHeader('access-control-allow-methods', '*')
      response.writeHead(200).end('{}')
    })
    await listen(evil, 0, 'localhost')
    try {
      const page = await openSignedIn(world)
      const to = encodeURIComponent(`${originOf(evil, 'localhost')}/collect`)
      for (const status of [301, 302, 303, 307, 308]) {
        const url = `${world.api.url}/redirect?to=${to}&status=${status}`
        await fetchIn(page, url)
        await fetchIn(page, url, { method: 'POST', body: 'x' })
      }
      const redirects = requestsTo(world.api, '/redirect')
      expect(redirects.map(({ authorization }) => authorization)).toEqual(Array(10).fill('bearer'))
      expect(seen.length).toBeGreaterThanOrEqual(5)
      for (const { headers } of seen) {
        expect(headers).not.toHaveProperty('authorization')
        expect(headers).not.toHaveProperty('dpop')
        expect(JSON.stringify(headers)).not.toMatch(/bearer/i)
      }
    } finally {
      await close(evil)
    }
  })

  test('on the same origin keeps it (IN-10)', async () => {
    const page = await openSignedIn(world)
    const answer = await fetchIn(page, `${world.api.url}/redirect?to=/me`)
    expect(answer).toMatchObject({ status: 200, body: { sub: 'alice' } })
  })

  test("is a network error with redirect: 'error' (IN-10)", async () => {
    world.useWorker(`apis: [{ url: '${world.api.url}', redirect: 'error' }]`)
    const page = await openSignedIn(world)
    const url = `${world.api.url}/redirect?to=/me`
    expect(await fetchIn(page, url)).toEqual({ error: 'TypeError' })
    expect(requestsTo(world.api, '/me')).toEqual([])
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
    const type = await page.evaluate(
      async (url) => (await fetch(url, { redirect: 'manual' })).type,
      url,
    )
    expect(type).toBe('opaqueredirect')
  })
})

describe('only the listed APIs get a token', () => {
  test('no neighbour on the own origin does (IN-01)', async () => {
    const page = await openSignedIn(world)
    const paths = ['/apiary', '/api', '/API/me', '/x/api/me', '/api%2fme', '/%61pi/me', '//api/me']
    for (const path of paths) await fetchIn(page, world.site.origin + path)
    const got = world.site.requests.filter(({ path }) => paths.includes(path))
    expect(got.map(({ path }) => path)).toEqual(paths)
    // `/api` is the API's own root, without the slash.
    expect(got.filter(({ headers }) => headers.authorization).map(({ path }) => path)).toEqual([
      '/api',
    ])
  })

  test('no look-alike origin does (IN-01)', async () => {
    world.usePolicy(anyServer)
    const page = await openSignedIn(world)
    const { port } = new URL(world.api.url)
    const alike = [
      stranger.url,
      `http://127.0.0.1:${port}`,
      `http://[::1]:${port}`,
      `http://api.localhost:${port}`,
    ]
    const reached = await Promise.all(alike.map((origin) => fetchIn(page, `${origin}/open`)))
    // The server listens at one of the two addresses; it is the others that prove something.
    expect(reached.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(1)
    const requests = [...requestsTo(stranger, '/open'), ...requestsTo(world.api, '/open')]
    expect(requests.length).toBeGreaterThanOrEqual(2)
    expect(requests.filter(({ authorization }) => authorization !== 'none')).toEqual([])
  })

  test('a rule with a path covers whole segments (IN-01)', async () => {
    world.useWorker(`apis: ['${world.api.url}/orders']`)
    const page = await openSignedIn(world)
    const paths = ['/orders', '/orders/1', '/ordersx', '/me', '/orders/%2e%2e/me']
    for (const path of paths) await fetchIn(page, world.api.url + path)
    const got = world.api.requests.filter(({ method }) => method !== 'OPTIONS')
    expect(got.map(({ path, authorization }) => [path, authorization])).toEqual([
      ['/orders', 'bearer'],
      ['/orders/1', 'bearer'],
      ['/ordersx', 'none'],
      ['/me', 'none'],
      // The URL parser has resolved the dots before anybody could look at them.
      ['/me', 'none'],
    ])
  })

  test('endpoints of the authorization server never do, even under a rule (IN-05)', async () => {
    world.usePolicy(anyServer)
    world.useWorker(`apis: ['${world.as.issuer}']`)
    const page = await openSignedIn(world)
    const sent: { url: string; authorization: string | undefined }[] = []
    const context = page.context()
    context.on('request', (request) => {
      if (request.serviceWorker() || request.frame().page() === page) {
        const { authorization } = request.headers()
        sent.push({ url: request.url(), authorization: authorization?.split(' ')[0] })
      }
    })
    await fetchIn(page, `${world.as.issuer}/token`)
    await fetchIn(page, `${world.as.issuer}/jwks`)
    expect(await leftAlone(page)).toEqual(
      expect.arrayContaining([`${world.as.issuer}/token`, `${world.as.issuer}/jwks`]),
    )
    expect(sent.filter(({ authorization }) => authorization)).toEqual([])
    // The rule itself works: what is no endpoint of the protocol is an API like any other.
    const { body } = await fetchIn(page, `${world.as.issuer}/userinfo`)
    expect(body).toMatchObject({ sub: 'alice' })
  })

  test('a request with its own Authorization is left alone (IN-06)', async () => {
    const page = await openSignedIn(world)
    const headers = { authorization: 'Basic YTpi' }
    const { status } = await fetchIn(page, `${world.api.url}/me`, { headers })
    expect(status).toBe(401)
    expect(requestsTo(world.api, '/me')).toMatchObject([{ authorization: 'basic' }])
    expect(await leftAlone(page)).toContain(`${world.api.url}/me`)
    expect(refreshesAt(world.as)).toEqual([])
  })
})

describe("a page's POST to the authorization server", () => {
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  const init = { method: 'POST', body: 'grant_type=refresh_token', headers }
  const refused = { status: 403, body: { title: 'For the service worker only', status: 403 } }
  const asked = () => world.as.requests.filter(({ method }) => method === 'POST')

  test('is answered by the worker where it is for the worker only (IN-07, ER-05)', async () => {
    world.usePolicy(anyServer)
    const page = await openSignedIn(world)
    world.as.clearRequests()
    const metadata = await (
      await fetch(`${world.as.issuer}/.well-known/openid-configuration`)
    ).json()
    const endpoints = ['token', 'revocation', 'introspection', 'registration']
      .concat('pushed_authorization_request')
      .flatMap((name) => metadata[`${name}_endpoint`] ?? [])
    expect(endpoints.length).toBeGreaterThanOrEqual(2)
    const urls = [...endpoints, `${metadata.token_endpoint}/?x`, `${world.as.issuer}/%74oken`]
    const tryAll = async () => {
      for (const url of urls) expect(await fetchIn(page, url, init), url).toEqual(refused)
    }
    await tryAll()
    await stopWorkers(page)
    await tryAll()
    await page.evaluate(() => window.auth.logout({ local: true }))
    await world.as.waitForRequest(({ path }) => path === '/revoke')
    world.as.clearRequests()
    await stopWorkers(page)
    await tryAll()
    const marks = await page.evaluate(
      async ([url, init]) => {
        const answer = await fetch(url, init)
        return ['x-tokenward', 'cache-control', 'content-type'].map((name) =>
          answer.headers.get(name),
        )
      },
      [urls[0], init] as const,
    )
    expect(marks).toEqual(['1', 'no-store', 'application/problem+json'])
    expect(asked()).toEqual([])
  })

  test('by XMLHttpRequest, beacon, worker or no-cors fetch is, too (IN-07)', async () => {
    world.site.setHeaders()
    const page = await openSignedIn(world)
    world.as.clearRequests()
    await stopWorkers(page)
    const statuses = await page.evaluate(async (url) => {
      const viaXhr = await new Promise((resolve) => {
        const request = new XMLHttpRequest()
        request.open('POST', url)
        request.onloadend = () => resolve(request.status)
        request.send('x')
      })
      const script = `fetch('${url}', { method: 'POST', body: 'x' }).then(({ status }) => postMessage(status))`
      const worker = new Worker(URL.createObjectURL(new Blob([script])))
      const viaWorker = await new Promise((resolve) => {
        worker.onmessage = ({ data }) => resolve(data)
      })
      navigator.sendBeacon(url, 'x')
      const opaque = await fetch(url, { method: 'POST', mode: 'no-cors', body: 'x' })
      return [viaXhr, viaWorker, opaque.status]
    }, `${world.as.issuer}/token`)
    expect(statuses).toEqual([403, 403, 403])
    expect(asked()).toEqual([])
  })

  test('goes on unchanged elsewhere at its origin, body and all (IN-07)', async () => {
    world.usePolicy(anyServer)
    const page = await openSignedIn(world)
    const { access_token: token } = await page.evaluate(async (name) => {
      const opening = indexedDB.open(name)
      await new Promise((resolve) => {
        opening.onsuccess = resolve
      })
      const reading = opening.result.transaction('session').objectStore('session').get('current')
      await new Promise((resolve) => {
        reading.onsuccess = resolve
      })
      opening.result.close()
      return { access_token: reading.result.accessToken as string }
    }, world.databaseName)
    world.as.clearRequests()
    const userinfo = { ...init, body: `access_token=${token}` }
    await stopWorkers(page)
    for (let round = 0; round < 2; round++) {
      const answer = await fetchIn(page, `${world.as.issuer}/me`, userinfo)
      const other = await fetchIn(page, `${world.as.issuer}/userinfo`, userinfo)
      expect([answer.status, other.status]).toContain(200)
    }
    expect(asked().length).toBe(4)
  })

  test("does not keep the worker's own requests from it (IN-05, IN-07)", async () => {
    const page = await openSignedIn(world)
    await stopWorkers(page)
    await page.evaluate(() => window.auth.renew())
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
  })
})

describe('what must not carry a token goes out without', () => {
  test('a request with a method that its API does not list (IN-03)', async () => {
    world.useWorker(`apis: [{ url: '${world.api.url}', methods: ['GET', 'HEAD'] }]`)
    const page = await openSignedIn(world)
    await fetchIn(page, `${world.api.url}/orders`)
    await fetchIn(page, `${world.api.url}/orders`, { method: 'POST', body: 'x' })
    expect(requestsTo(world.api, '/orders')).toMatchObject([
      { method: 'GET', authorization: 'bearer' },
      { method: 'POST', authorization: 'none' },
    ])
  })

  test('requests that are not ours are not answered by the worker (IN-05)', async () => {
    world.usePolicy(anyServer)
    const page = await openSignedIn(world)
    world.site.addFile('/data.json', { body: '{}' })
    const others = [`${world.site.origin}/data.json`, `${stranger.url}/open`]
    for (const url of others) await fetchIn(page, url)
    await fetchIn(page, `${world.api.url}/me`)
    await fetchIn(page, '/api/me')
    const declined = await leftAlone(page)
    expect(declined).toEqual(expect.arrayContaining(others))
    expect(declined).not.toContain(`${world.api.url}/me`)
    expect(declined).not.toContain(`${world.site.origin}/api/me`)
  })

  test("the worker's own requests to the server are not taken for the app's (IN-05)", async () => {
    world.useWorker(`apis: ['${world.as.issuer}', '${world.api.url}']`)
    const page = await openSignedIn(world)
    await page.evaluate(() => window.auth.renew())
    expect(refreshesAt(world.as)).toMatchObject([{ status: 200 }])
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
  })
})

describe('an API that asks for more than the sign-in gives', () => {
  test('is heard once in every tab, and its answer goes to the app (RF-17)', async () => {
    const context = await world.newProfile()
    const page = await openSignedIn(world, context)
    const other = await openApp(context, world.url)
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => fetchIn(page, `${world.api.url}/step-up`)),
    )
    const body = { status: 401, detail: 'insufficient_user_authentication' }
    for (const answer of answers) expect(answer).toEqual({ status: 401, body })
    expect(await fetchIn(page, `${world.api.url}/forbidden`)).toMatchObject({ status: 403 })
    await other.waitForFunction(
      () => window.events.filter(({ type }) => type === 'step-up').length === 2,
    )
    for (const each of [page, other]) {
      expect(await eventsOf(each, 'step-up')).toEqual([
        { type: 'step-up', wants: 'authentication', params: {} },
        { type: 'step-up', wants: 'scope', params: {} },
      ])
    }
    expect(refreshesAt(world.as)).toEqual([])
    expect(requestsTo(world.api, '/step-up')).toHaveLength(5)
  })
})

describe('the token', () => {
  test('is in nothing that the page, another listener or a cache gets to see (IN-17)', async () => {
    // A listener before ours that keeps all it can get of each request, now and when it is over.
    world.useWorker(
      '',
      `addEventListener('fetch', (event) => {
        const { request } = event
        const keep = async (when) => {
          const cache = await caches.open('spy')
          const url = request.url.split('?')[0] + '?' + when
          await cache.put(new Request(url, { headers: request.headers }), new Response('x'))
          const db = await new Promise((resolve) => {
            const opening = indexedDB.open('spy', 1)
            opening.onupgradeneeded = () => opening.result.createObjectStore('all', { autoIncrement: true })
            opening.onsuccess = () => resolve(opening.result)
          })
          db.transaction('all', 'readwrite').objectStore('all').put([...request.headers])
          db.close()
        }
        if (!['/me', '/orders'].includes(new URL(request.url).pathname)) return
        event.waitUntil(keep('before').then(() => event.handled).then(() => keep('after')))
      })`,
    )
    const context = await world.newProfile()
    const told: string[] = []
    context.on('console', (message) => told.push(message.text()))
    const page = await openSignedIn(world, context)
    await fetchIn(page, `${world.api.url}/me`)
    world.api.rejectCurrentTokens()
    await fetchIn(page, `${world.api.url}/orders`, { method: 'POST', body: '{}' })
    const found = await page.evaluate(async (own) => {
      const open = (name: string) =>
        new Promise<IDBDatabase>((resolve) => {
          const opening = indexedDB.open(name)
          opening.onsuccess = () => resolve(opening.result)
        })
      const all = async (name: string) => {
        const db = await open(name)
        const values = await Promise.all(
          [...db.objectStoreNames].map(
            (store) =>
              new Promise((resolve) => {
                const reading = db.transaction(store).objectStore(store).getAll()
                reading.onsuccess = () => resolve(reading.result)
              }),
          ),
        )
        db.close()
        return JSON.stringify(values)
      }
      const cached: string[] = []
      // `event.handled` settles a moment after the page has its answer.
      while (cached.length < 4) {
        cached.length = 0
        for (const name of await caches.keys()) {
          const cache = await caches.open(name)
          for (const { url, headers } of await cache.keys()) cached.push(`${url} ${[...headers]}`)
        }
      }
      const others = (await indexedDB.databases()).filter(({ name }) => name !== own)
      return {
        tokens: [...(await all(own)).matchAll(/"accessToken":"(.+?)"/g)].map(([, token]) => token),
        databases: others.map(({ name }) => name),
        seen: [...cached, ...(await Promise.all(others.map(({ name = '' }) => all(name))))],
      }
    }, world.databaseName)
    expect(found.tokens).toHaveLength(1)
    expect(found.databases).toContain('spy')
    expect(found.seen).toHaveLength(4 + found.databases.length)
    const everything = [...found.seen, ...told].join()
    expect(everything).not.toMatch(/bearer|authorization/i)
    expect(everything).not.toContain(found.tokens[0])
  })
})

describe('signed out', () => {
  test('a request goes out bare and gets the answer of the API (IN-12)', async () => {
    const page = await openApp(await world.newProfile(), world.url)
    expect(await fetchIn(page, `${world.api.url}/open`)).toEqual({
      status: 200,
      body: { open: true },
    })
    const body = JSON.stringify({ item: 'Tea' })
    const init = { method: 'POST', body, headers: { 'content-type': 'application/json' } }
    expect(await fetchIn(page, `${world.api.url}/orders`, init)).toEqual({
      status: 401,
      body: { status: 401, detail: 'A token is needed' },
    })
    expect(requestsTo(world.api, '/orders')).toMatchObject([
      { method: 'POST', authorization: 'none' },
    ])
    expect(world.as.requests.filter(({ path }) => path === '/token')).toEqual([])
  })

  test("with unauthenticated: 'fail' it fails as a network error (IN-12)", async () => {
    world.useWorker(
      `apis: [{ url: '${world.api.url}/orders', unauthenticated: 'fail' }, '${world.api.url}']`,
    )
    const page = await openApp(await world.newProfile(), world.url)
    expect(await fetchIn(page, `${world.api.url}/orders`)).toEqual({ error: 'TypeError' })
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 401 })
    expect(requestsTo(world.api, '/orders')).toEqual([])
  })
})

describe('keepalive', () => {
  test('goes out at once with the token there is, while it is renewed (IN-14)', async () => {
    const page = await openSignedIn(world)
    await shiftClock(page, 3600)
    world.as.setFault({ path: '/token', kind: 'hang' })
    const init = { method: 'POST', body: 'last words', keepalive: true }
    const { status } = await fetchIn(page, `${world.api.url}/upload`, init)
    expect(status).toBe(200)
    const renewal = await world.as.waitForRequest(({ grantType }) => grantType === 'refresh_token')
    expect(renewal.status).toBe(undefined)
  })

  test('does not wait for a second try after a 401 (IN-14)', async () => {
    const page = await openSignedIn(world)
    await fetchIn(page, `${world.api.url}/me`)
    world.api.rejectCurrentTokens()
    const init = { method: 'POST', body: 'last words', keepalive: true }
    expect(await fetchIn(page, `${world.api.url}/upload`, init)).toMatchObject({ status: 401 })
    expect(requestsTo(world.api, '/upload')).toHaveLength(1)
  })
})

test('a 401 of an API that no entry names has a word in the console of the development build', async () => {
  world.usePolicy(anyServer)
  const context = await world.newProfile()
  const page = await openSignedIn(world, context)
  const hint = page.waitForEvent('console', (message) => message.text().includes('tokenward'))
  expect((await fetchIn(page, `${world.api.url}/me`)).status).toBe(200)
  expect((await fetchIn(page, `${stranger.url}/me`)).status).toBe(401)
  expect((await hint).text()).toContain(`${stranger.url} has answered 401`)
})
