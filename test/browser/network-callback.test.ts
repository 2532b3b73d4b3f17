import { cp, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright-core'
import { build, createServer, preview } from 'vite'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  arriveAt,
  fetchIn,
  openAndSignIn,
  openApp,
  openSignedIn,
  signIn,
  startLogin,
  stopWorkers,
  useWorld,
} from '../support/world.js'

const publicPages = fileURLToPath(new URL('../../public/tokenward', import.meta.url))
const answerOfServer = '/tokenward/callback.html?code=SECRET&state=x'

const world = useWorld()

/** Opens a URL and gives everything that could have run or told somebody else the URL. */
const visit = async (page: Page, url: string) => {
  const requested: string[] = []
  page.on('request', (request) => requested.push(`${request.resourceType()} ${request.url()}`))
  const problems: string[] = []
  page.on('pageerror', (error) => problems.push(error.message))
  const response = await page.goto(url)
  const body = (await response?.text()) ?? ''
  return { status: response?.status(), body, requested, problems }
}

/** The page is there, says what to do, and has nothing in it that runs, loads or sends. */
const expectInert = async (page: Page, origin: string) => {
  const url = origin + answerOfServer
  const { status, body, requested, problems } = await visit(page, url)
  expect(status).toBe(200)
  expect(requested).toEqual([`document ${url}`])
  expect(problems).toEqual([])
  expect(body).not.toMatch(/<script|<iframe|<form|<img|<link|javascript:|\son\w+\s*=/i)
  expect(await page.evaluate(() => document.scripts.length)).toBe(0)
  await page.getByRole('link', { name: 'Go back to the app' }).click()
  await page.waitForURL(`${origin}/`)
  expect(await page.evaluate(() => document.referrer)).toBe('')
}

describe('without a worker, the answer of the authorization server meets an inert page', () => {
  test('on the site of the demo, with headers of its own (CB-13)', async () => {
    const page = await (await world.newProfile({ serviceWorkers: 'block' })).newPage()
    await expectInert(page, world.site.origin)
    const response = await fetch(world.site.origin + answerOfServer)
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'cache-control': 'no-store',
      'content-security-policy': expect.stringMatching(/^sandbox; default-src 'none'/),
      'referrer-policy': 'no-referrer',
      'x-frame-options': 'DENY',
    })
  })

  describe('in Vite', () => {
    let root: string
    beforeAll(async () => {
      root = await realpath(await mkdtemp(join(tmpdir(), 'tokenward-vite-')))
      await cp(publicPages, join(root, 'public/tokenward'), { recursive: true })
      await writeFile(
        join(root, 'index.html'),
        '<!doctype html><title>app</title><script type="module" src="/app.js"></script>',
      )
      await writeFile(join(root, 'app.js'), 'window.app = location.href')
    })
    afterAll(() => rm(root, { recursive: true }))

    const options = () =>
      ({ root, configFile: false, logLevel: 'silent', clearScreen: false }) as const
    const urlOf = ({ resolvedUrls }: { resolvedUrls: { local: string[] } | null }) =>
      new URL(resolvedUrls?.local[0] ?? '').origin

    test('vite dev (CB-13)', async () => {
      const server = await createServer({ ...options(), server: { port: 0, host: 'localhost' } })
      await server.listen()
      try {
        const page = await (await world.newProfile()).newPage()
        await expectInert(page, urlOf(server))
        // Unlike any path that is no file: that is answered with the app, scripts and all.
        await page.goto(`${urlOf(server)}/callback?code=SECRET&state=x`)
        expect(await page.evaluate(() => 'app' in window)).toBe(true)
      } finally {
        await server.close()
      }
    })

    test('vite build and vite preview (CB-13)', async () => {
      await build(options())
      const server = await preview({ ...options(), preview: { port: 0, host: 'localhost' } })
      try {
        await expectInert(await (await world.newProfile()).newPage(), urlOf(server))
      } finally {
        await server.close()
      }
    })
  })
})

/** What stands in the network's answer at the auth pages without the headers of docs/security.md. */
const withoutHeaders = () => {
  const names =
    'content-security-policy x-content-type-options x-frame-options referrer-policy ' +
    'cache-control cross-origin-opener-policy'
  const none = Object.fromEntries(names.split(' ').map((name) => [name, undefined]))
  world.site.setHeaders((path) => (path.includes('/tokenward/') ? none : undefined))
}

const callbacks = () =>
  world.site.requests.filter(({ path }) => path === '/tokenward/callback.html')

type Opening = 'iframe' | 'sandboxed' | 'credentialless' | 'popup'

/**
 * What a script in the page gets that begins a sign-in of its own, with a verifier of its own, in
 * a frame or window: the code, if it can read it anywhere, and tokens for it.
 */
const attack = async (page: Page, kind: Opening) => {
  const { issuer } = world.as
  const input = {
    issuer,
    clientId: world.clientId,
    callback: `${world.url}tokenward/callback.html`,
  }
  const popup = kind === 'popup' ? page.waitForEvent('popup') : undefined
  await page.evaluate(
    async ({ issuer, clientId, callback, kind }) => {
      const verifier = `${crypto.randomUUID()}${crypto.randomUUID()}`
      const bytes = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier))
      const challenge = btoa(String.fromCharCode(...new Uint8Array(bytes)))
      const url = `${issuer}/auth?${new URLSearchParams({
        client_id: clientId,
        redirect_uri: callback,
        response_type: 'code',
        scope: 'openid',
        prompt: 'none',
        state: 'mine',
        nonce: 'mine',
        code_challenge_method: 'S256',
        code_challenge: challenge.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', ''),
      })}`
      /** Everything that came to the page by itself. */
      const told: unknown[] = []
      addEventListener('message', ({ data }) => told.push(data))
      const tell = (list: { getEntries(): { toJSON(): unknown }[] }) => {
        for (const entry of list.getEntries()) told.push(entry.toJSON())
      }
      const types = ['resource', 'navigation', 'visibility-state', 'element', 'layout-shift']
      for (const type of types) new PerformanceObserver(tell).observe({ type, buffered: true })
      let opened: Window | null | undefined
      const readings: string[] = []
      const read = () => {
        try {
          readings.push(opened?.closed ? 'closed' : (opened?.location.href ?? 'nothing'))
        } catch (error) {
          readings.push((error as Error).name)
        }
      }
      Object.assign(window, { attack: { verifier, told, readings, read } })
      if (kind === 'popup') {
        opened = open(url)
        return
      }
      const frame = document.createElement('iframe')
      if (kind === 'sandboxed') frame.setAttribute('sandbox', 'allow-scripts')
      if (kind === 'credentialless') frame.setAttribute('credentialless', '')
      frame.src = url
      const loaded = new Promise((resolve) => {
        frame.onload = resolve
      })
      document.body.append(frame)
      opened = frame.contentWindow
      const polling = setInterval(read)
      await loaded
      clearInterval(polling)
    },
    { ...input, kind },
  )
  await (await popup)?.waitForURL((url) => url.origin === world.site.origin)
  await (await popup)?.waitForLoadState()
  const found = await page.evaluate(() => {
    const { attack } = window as unknown as {
      attack: { verifier: string; told: unknown[]; readings: string[]; read: () => void }
    }
    attack.read()
    const all = JSON.stringify([attack.told, attack.readings])
    const code = /[?&#]code=([\w-]+)/.exec(all)?.[1]
    const last = attack.readings.at(-1) ?? ''
    const error = /[?&#]error=(\w+)/.exec(all)?.[1]
    return { last, error, code, verifier: attack.verifier }
  })
  const { last, error, code, verifier } = found
  if (!code) return { last, ...(error && { error }) }
  // From anywhere: what a script has read, it can send there. The worker stops the page's own POST.
  const response = await fetch(`${issuer}/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'authorization_code',
      client_id: input.clientId,
      redirect_uri: input.callback,
      code,
      code_verifier: verifier,
    }),
  })
  return { last, tokens: 'access_token' in ((await response.json()) as object) }
}

/** The code that was there to be read, had the attack succeeded. */
const codeAtNetwork = () => new URLSearchParams(callbacks().at(-1)?.query).get('code')

/** Nobody has read the code, and nobody has made tokens of it. */
const expectUnread = async (page: Page, kind: Opening) => {
  world.site.clearRequests()
  world.as.clearRequests()
  const { last, ...stolen } = await attack(page, kind)
  expect(stolen).toEqual({})
  // Unreadable, or gone, or at the end of the worker's own answer.
  const ours = [world.url, `${world.url}#`, `${world.url}tokenward/done.html#`]
  expect(['SecurityError', 'closed', ...ours]).toContain(last)
  expect(world.as.requests.filter(({ path }) => path === '/token')).toEqual([])
}

/** The network was asked with a code in the URL: the attack got as far as that. */
const expectUnreadAtNetwork = async (page: Page, kind: Opening) => {
  await expectUnread(page, kind)
  expect(codeAtNetwork()).toMatch(/^[\w-]{20,}$/)
}

const unregister = (page: Page) =>
  page.evaluate(async () => {
    await (await navigator.serviceWorker.getRegistration())?.unregister()
  })

/** The app, opened again, works: its user signs in, and requests carry a token. */
const expectRecovery = async (page: Page) => {
  await page.goto(world.url)
  await page.evaluate(() => window.auth.ready)
  await signIn(page)
  expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ body: { sub: 'alice' } })
}

/** Registers a script for the folder of the auth pages. */
const registerNarrow = (page: Page, script: string): Promise<string> =>
  page.evaluate(async (script) => {
    try {
      const options = { scope: '/tokenward/' }
      const { installing } = await navigator.serviceWorker.register(script, options)
      await new Promise<void>((resolve) => {
        installing?.addEventListener('statechange', () => {
          if (installing.state === 'activated') resolve()
        })
      })
      return 'registered'
    } catch (error) {
      return (error as Error).name
    }
  }, script)

const unregisterNarrow = (page: Page) =>
  page.evaluate(async () => {
    await (await navigator.serviceWorker.getRegistration('/tokenward/x'))?.unregister()
  })

/** The user has a session at the server, if none in the app. */
const startSession = async (page: Page) => {
  await arriveAt(page, world.site.origin, () => startLogin(page))
  await page.goto(world.url)
  await page.evaluate(() => window.auth.ready)
}

/** A worker whose options or code are changed, in place of the one of this test. */
const serveWorker = (change: (source: string) => string) => {
  // What throws in here is meant to, and is not to be told as unhandled.
  const source = world.workerSource().replace("'error', ", '')
  world.site.addFile('/sw.js', { body: change(source) })
}

/** A policy made by a script: frames may show the server, but not what it redirects to. */
const forbidCallback = (page: Page) =>
  page.evaluate((issuer) => {
    const meta = document.createElement('meta')
    meta.httpEquiv = 'Content-Security-Policy'
    meta.content = `frame-src ${issuer}`
    document.head.append(meta)
    addEventListener('securitypolicyviolation', ({ blockedURI }) => postMessage(blockedURI))
  }, world.as.issuer)

/** A worker that is right takes the place of the one that is there. */
const deployWorker = async (page: Page) => {
  serveWorker((source) => `skipWaiting();${source}`)
  await page.evaluate(async () => {
    const registration = await navigator.serviceWorker.getRegistration()
    const updated = await registration?.update()
    const worker = (updated ?? registration)?.installing
    await new Promise<void>((resolve) => {
      if (!worker) return resolve()
      worker.addEventListener('statechange', () => {
        if (worker.state === 'activated') resolve()
      })
    })
  })
}

describe('where the worker is passed by, nobody reads the code', () => {
  // The app has no policy of its own, which would stop some of this before it begins.
  beforeEach(() => world.site.setHeaders())

  test.each(['iframe', 'popup'] as const)(
    'by a registration that is gone: %s (CB-13)',
    async (kind) => {
      const page = await openSignedIn(world)
      await unregister(page)
      await expectUnreadAtNetwork(page, kind)
      await expectRecovery(page)
    },
  )

  test('by a sandboxed frame, which no worker sees (CB-13)', async () => {
    const page = await openSignedIn(world)
    await expectUnreadAtNetwork(page, 'sandboxed')
    await expectRecovery(page)
  })

  test('by a credentialless frame, which has no session of the server either (CB-13)', async () => {
    const page = await openSignedIn(world)
    await expectUnread(page, 'credentialless')
    expect(callbacks()).toHaveLength(1)
    expect(codeAtNetwork()).toBe(null)
    await expectRecovery(page)
  })

  test('by a worker for the folder of the callback, of any script of the site (CB-13)', async () => {
    const page = await openSignedIn(world)
    world.site.addFile('/narrow.js', { body: 'addEventListener("fetch", () => {})' })
    expect(await registerNarrow(page, '/narrow.js')).toBe('registered')
    await expectUnreadAtNetwork(page, 'iframe')
    await expectUnreadAtNetwork(page, 'popup')
    await unregisterNarrow(page)
    await expectRecovery(page)
  })

  test('by such a worker, where worker-src names the one script: it is not registered (CB-13)', async () => {
    const policy = `worker-src ${world.url}sw.js`
    world.site.setHeaders((path) => (path === '/' ? { 'content-security-policy': policy } : {}))
    world.site.addFile('/narrow.js', { body: 'addEventListener("fetch", () => {})' })
    const page = await openSignedIn(world)
    expect(await registerNarrow(page, '/narrow.js')).toBe('SecurityError')
    // The one script passes with any query and scope: it declines what is not its own folder's.
    expect(await registerNarrow(page, '/sw.js?issuer=https://evil.example')).toBe('registered')
    await expectUnreadAtNetwork(page, 'iframe')
    await unregisterNarrow(page)
    await expectRecovery(page)
  })

  test.each([
    ['its script throws when it is started again', 'if (registration.active) throw Error("no")'],
    [
      'its one listener throws before it asks tokenward',
      `const listen = addEventListener.bind(self)
      self.addEventListener = (type, listener) =>
        listen(type, type !== 'fetch' ? listener : (event) => {
          if (event.isTrusted && event.request.url.includes('callback')) throw Error('no')
          listener(event)
        })`,
    ],
  ])('by a worker that fails: %s (CB-13)', async (_title, code) => {
    serveWorker((source) => `${code};${source}`)
    const page = await openApp(await world.newProfile(), world.url)
    await startSession(page)
    await stopWorkers(page)
    await expectUnreadAtNetwork(page, 'iframe')
    await expectUnreadAtNetwork(page, 'popup')
    await deployWorker(page)
    await expectRecovery(page)
  })

  test('by a listener before ours that throws: ours answers all the same (CB-13)', async () => {
    const thrower = 'addEventListener("fetch", () => { throw Error("no") })'
    serveWorker((source) => `${thrower};${source}`)
    const page = await openAndSignIn(world)
    await expectUnread(page, 'iframe')
    expect(callbacks()).toEqual([])
    await expectRecovery(page)
  })

  test.each([
    ['network', '/tokenward/callback.html'],
    ['race-network-and-fetch-handler', '/tokenward/callback.html'],
    ['race-network-and-fetch-handler', '/*'],
    ['fetch-event', '/tokenward/callback.html'],
  ])('by a static route of the app: %s for %s (CB-18)', async (source, pathname) => {
    serveWorker(
      // Before ours: the first route that fits counts.
      (worker) => `
        addEventListener('install', (event) => {
          const urlPattern = new URLPattern({ pathname: '${pathname}' })
          // Navigations only: else "ready" might get the probe from the network.
          event.addRoutes({ condition: { urlPattern, requestMode: 'navigate' }, source: '${source}' })
        })
        ${worker}`,
    )
    const page = await openApp(await world.newProfile(), world.url)
    await startSession(page)
    await expectUnread(page, 'iframe')
    await expectUnread(page, 'popup')
    if (source === 'network') expect(codeAtNetwork()).toMatch(/^[\w-]{20,}$/)
    if (source === 'fetch-event') expect(callbacks()).toEqual([])
    await deployWorker(page)
    await expectRecovery(page)
  })

  test('in a frame that the policy of the app keeps from the server (CB-13)', async () => {
    const policy = "frame-src 'self'"
    world.site.setHeaders((path) => (path === '/' ? { 'content-security-policy': policy } : {}))
    const page = await openSignedIn(world)
    await unregister(page)
    await forbidCallback(page)
    await expectUnread(page, 'iframe')
    expect(world.as.requests.filter(({ path }) => path === '/auth')).toEqual([])
    await expectRecovery(page)
  })

  test('by a fetch that follows the server’s redirect (CB-13)', async () => {
    const page = await openSignedIn(world)
    await unregister(page)
    await page.goto(`${world.url}other`)
    const { issuer } = world.as
    const found = await page.evaluate(
      async ([url, callback]) => {
        const query = new URLSearchParams({
          client_id: 'test-app',
          redirect_uri: callback,
          response_type: 'code',
          scope: 'openid',
          prompt: 'none',
          code_challenge_method: 'S256',
          code_challenge: 'x'.repeat(43),
        })
        const target = `${url}?${query}`
        const results: unknown[] = []
        for (const mode of ['cors', 'no-cors'] as const) {
          await fetch(target, { mode, credentials: 'include' }).then(
            ({ url, type }) => results.push({ url, type }),
            (error) => results.push(error.name),
          )
        }
        return { results, entries: JSON.stringify(performance.getEntries()) }
      },
      [`${issuer}/auth`, `${world.url}tokenward/callback.html`] as const,
    )
    expect(found.results).toEqual(['TypeError', { url: '', type: 'opaque' }])
    expect(found.entries).not.toMatch(/[?&]code=/)
    expect(codeAtNetwork()).toMatch(/^[\w-]{20,}$/)
  })

  test('by navigation preload: the user is signed in all the same (CB-18)', async () => {
    world.site.addFile('/sw.js', {
      body: `${world.workerSource()}
        addEventListener('activate', (event) => {
          event.waitUntil(registration.navigationPreload.enable())
        })`,
    })
    const page = await openApp(await world.newProfile(), world.url)
    const state = await page.evaluate(async () =>
      (await navigator.serviceWorker.ready).navigationPreload.getState(),
    )
    expect(state.enabled).toBe(true)
    await signIn(page)
    expect(page.url()).toBe(world.url)
    // The browser has asked the network too. What came back there is the inert page.
    const preloads = callbacks()
    expect(preloads.length).toBeGreaterThanOrEqual(1)
    for (const { path, query } of preloads) {
      const response = await fetch(`${world.site.origin}${path}?${query}`)
      expect(response.headers.get('content-security-policy')).toMatch(/^sandbox/)
      expect(await response.text()).not.toMatch(/<script/i)
    }
  })

  test('not by a deployed script that throws: the worker that works stays (CB-13)', async () => {
    const page = await openSignedIn(world)
    world.site.addFile('/sw.js', { body: `skipWaiting()\nthrow new Error('broken deploy')` })
    const updated = await page.evaluate(async () => {
      const registration = await navigator.serviceWorker.ready
      return await registration.update().then(
        () => 'updated',
        (error) => error.name,
      )
    })
    expect(updated).toBe('TypeError')
    await expectUnread(page, 'iframe')
    expect(callbacks()).toEqual([])
  })
})

// Each of these is a limit that docs/security.md names. A test that fails here is good news.
describe('what remains', () => {
  beforeEach(() => world.site.setHeaders())

  test('without headers, only a frame or window without a sandbox is read (CB-13, PV-07)', async () => {
    withoutHeaders()
    const page = await openSignedIn(world)
    await expectUnreadAtNetwork(page, 'sandboxed')
    // The server does not know the user in there.
    expect(await attack(page, 'credentialless')).toMatchObject({ error: 'login_required' })
    await unregister(page)
    for (const kind of ['iframe', 'popup'] as const) {
      expect(await attack(page, kind)).toMatchObject({ tokens: true })
    }
    await expectRecovery(page)
  })

  test('the report of a policy of its own shows a script the code of its own sign-in (PV-07)', async () => {
    const page = await openSignedIn(world)
    await forbidCallback(page)
    expect(await attack(page, 'iframe')).toMatchObject({ tokens: true })
    // The worker was there, and never asked.
    expect(callbacks()).toEqual([])
  })

  test('a script of the attacker as worker reads it: what worker-src is for (PV-07)', async () => {
    const page = await openSignedIn(world)
    world.site.addFile('/evil.js', {
      body: `addEventListener('fetch', ({ request }) => {
        if (request.mode !== 'navigate') return
        clients.matchAll({ includeUncontrolled: true }).then((all) => {
          for (const client of all) client.postMessage(request.url)
        })
      })`,
    })
    expect(await registerNarrow(page, '/evil.js')).toBe('registered')
    await page.evaluate(() => {
      navigator.serviceWorker.addEventListener('message', ({ data }) => postMessage(data))
      navigator.serviceWorker.startMessages()
    })
    expect(await attack(page, 'iframe')).toMatchObject({ tokens: true })
    await unregisterNarrow(page)
    await expectRecovery(page)
  })
})

test('with the worker there, the network never sees an answer (CB-01)', async () => {
  const page = await openAndSignIn(world)
  await page.evaluate(() => window.auth.checkSession())
  const paths = world.site.requests.map(({ path }) => path)
  expect(paths.filter((path) => path.startsWith('/tokenward/'))).toEqual([])
  const queries = world.site.requests.map(({ query }) => query)
  expect(queries.filter((query) => /code=|state=|ticket=/.test(query))).toEqual([])
})
