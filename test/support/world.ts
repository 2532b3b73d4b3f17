// A whole world for one browser test file: authorization server, API, web site and browser.
import { readFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { createApiHandler, startApi } from '../../demo/api.mjs'
import { startAuthorizationServer } from '../../demo/authorization-server.mjs'
import { startSite } from '../../demo/site.mjs'
import type { Session, SessionEvent, TokenManager } from '../../src/index.js'
import { launchOptions } from './browser.mjs'
import { limit } from './machine.mjs'
import { openSeeded } from './seeded-session.js'
import { NONCE, strictHeaders } from './strict-policy.js'

const fromRoot = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

export interface WorldOptions {
  /** Folder of the app on its site: its scope. */
  base?: string
  /** Folder of a second app on it: another worker, for the same client. */
  otherBase?: string
  /** Source of more properties for the worker's options. */
  workerOptions?: string
  /** Source that runs in the worker before `createTokenWorker`. */
  beforeWorker?: string
  /** Source that runs in the worker after it. */
  afterWorker?: string
  /** Handlers of the site, by path prefix. */
  mounts?: Record<string, (request: IncomingMessage, response: ServerResponse) => unknown>
  /** What the page calls. */
  managerCall?: string
  /** More for `startAuthorizationServer`. */
  server?: Partial<Parameters<typeof startAuthorizationServer>[0]>
  /** `false`: the sign-in pages are shown. Default: everybody is alice at once. */
  autoSignIn?: 'alice' | 'bob' | 'carol' | false
  /** More arguments for the browser. */
  browserArgs?: string[]
  /** Back and Forward restore pages as they were, as they do for users; Playwright forbids it. */
  bfcache?: boolean
}

declare global {
  interface Window {
    auth: TokenManager
    events: SessionEvent[]
    tokenward: typeof import('../../src/index.js')
  }
}

type Waiting<Request> = (predicate: (request: Request) => unknown, ms?: number) => Promise<Request>

/** A server whose `waitForRequest` waits as long as this machine may need. */
const patient = <Request, Server extends { waitForRequest: Waiting<Request> }>(
  server: Server & { waitForRequest: Waiting<Request> },
): Server => ({
  ...server,
  waitForRequest: (predicate: (request: Request) => unknown, ms = 10_000) =>
    server.waitForRequest(predicate, limit(ms)),
})

/** The servers of a world, for tests that bring a browser of their own. */
export const startServers = async (options: WorldOptions = {}) => {
  const base = options.base ?? '/'
  let world: { as?: Awaited<ReturnType<typeof startAuthorizationServer>> } = {}
  const sameOriginApi = createApiHandler({
    verify: (token: string) => world.as?.verifyAccessToken(token),
  })
  /** Errors and rejections in pages and workers that nobody has handled. */
  const unhandled: string[] = []
  const noteUnhandled = async (request: IncomingMessage, response: ServerResponse) => {
    unhandled.push(await text(request))
    response.writeHead(204).end()
  }
  const mounts = {
    '/api/': sameOriginApi.handle,
    '/unhandled/': noteUnhandled,
    ...options.mounts,
  }
  const site = patient(await startSite({ roots: [], mounts }))
  const clientId = 'test-app'
  const scopes = [base, options.otherBase ?? []].flat().map((folder) => site.origin + folder)
  const client = {
    clientId,
    redirectUris: scopes.flatMap((scope) => [`${scope}tokenward/callback.html`, `${scope}back`]),
    postLogoutRedirectUris: scopes.map((scope) => `${scope}tokenward/logout.html`),
    origins: [site.origin],
  }
  const as = patient(
    await startAuthorizationServer({
      clients: [client],
      ...(options.autoSignIn !== false && { autoSignIn: options.autoSignIn ?? 'alice' }),
      ...options.server,
    }),
  )
  world = { as }
  const api = patient(await startApi({ origins: [site.origin], verify: as.verifyAccessToken }))

  const origins = {
    workers: scopes.map((scope) => `${scope}sw.js`),
    api: api.url,
    server: new URL(as.issuer).origin,
  }
  /** Pages and workers are served with the headers that the docs recommend, but for these. */
  const usePolicy = (changes?: Parameters<typeof strictHeaders>[1]) =>
    site.setHeaders(strictHeaders(origins, changes))
  usePolicy()

  const workerSource = (workerOptions = '', beforeWorker = '') => `
    for (const type of ['error', 'unhandledrejection']) {
      self.addEventListener(type, ({ message, reason }) => {
        // An installation fails by a rejection; there is no other way.
        if (reason?.code === 'invalid_configuration') return
        fetch('/unhandled/', { method: 'POST', body: String(message ?? reason?.stack ?? reason) })
      })
    }
    importScripts('/tokenward-worker.js')
    ${options.beforeWorker ?? ''}
    ${beforeWorker}
    const worker = tokenward.createTokenWorker({
      issuer: '${as.issuer}',
      clientId: '${clientId}',
      apis: ['${api.url}/', '/api/'],
      scope: 'openid profile offline_access',
      authorizationParams: { prompt: 'consent' },
      ${options.workerOptions ?? ''}
      ${workerOptions}
    })
    worker.listen({ claim: true })
    ${options.afterWorker ?? ''}`
  /** The source of a page of the app; `call` makes its token manager. */
  const pageFor = (call: string) => `<!doctype html><meta charset="utf-8"><title>test app</title>
    <link rel="icon" href="data:,">
    <h1>test app</h1>
    <script type="module" nonce="${NONCE}">
      import * as tokenward from '/tokenward.js'
      window.tokenward = tokenward
      window.events = []
      window.auth = ${call}
      auth.onChange((event) => events.push(event))
    </script>`
  const managerCall = (folder: string) => `tokenward.createTokenManager('${folder}sw.js')`
  const pageSource = pageFor(options.managerCall ?? managerCall(base))
  const library = (path: string) => readFile(fromRoot(path), 'utf8')
  site.addFile('/tokenward-worker.js', {
    body: await library('dist/development/worker.classic.js'),
  })
  site.addFile('/tokenward.js', { body: await library('dist/development/page.standalone.js') })
  site.addFile(`${base}sw.js`, { body: workerSource() })
  site.addFile(base, { body: pageSource, type: 'text/html' })
  site.addFile(`${base}other`, { body: pageSource, type: 'text/html' })
  if (options.otherBase) {
    const body = pageFor(managerCall(options.otherBase))
    site.addFile(`${options.otherBase}sw.js`, { body: workerSource() })
    site.addFile(options.otherBase, { body, type: 'text/html' })
  }

  return {
    as,
    api,
    sameOriginApi,
    site,
    clientId,
    databaseName: `tokenward ${as.issuer} ${clientId}`,
    /** URL of the app. */
    url: site.origin + base,
    workerSource,
    pageFor,
    pageSource,
    unhandled,
    usePolicy,

    /** Profiles opened from now on, in this test, get a worker with these options too. */
    useWorker: (workerOptions: string, beforeWorker = '') =>
      site.addFile(`${base}sw.js`, { body: workerSource(workerOptions, beforeWorker) }),

    /** Back to the state of the start, for the next test; fails if an error went unhandled. */
    reset: async () => {
      as.setFault(undefined)
      as.setAccessTokenSeconds(300)
      as.setAutoSignIn(options.autoSignIn === false ? undefined : (options.autoSignIn ?? 'alice'))
      as.clearRequests()
      api.clearRequests()
      site.clearRequests()
      sameOriginApi.clearRequests()
      usePolicy()
      site.addFile(`${base}sw.js`, { body: workerSource() })
      const errors = unhandled.splice(0)
      if (errors.length > 0) throw new Error(`Not handled: ${errors.join('\n')}`)
    },

    close: async () => {
      await Promise.all([as.close(), api.close(), site.close()])
    },
  }
}

const launch = async ({ browserArgs = [], bfcache }: WorldOptions = {}): Promise<Browser> => {
  const common = await launchOptions()
  return await chromium.launch({
    ...common,
    args: [...common.args, ...browserArgs],
    ...(bfcache && { ignoreDefaultArgs: ['--disable-back-forward-cache'] }),
  })
}

let shared: Promise<Browser> | undefined

/**
 * One browser for all files of this process: profiles share nothing, and to start one takes two
 * seconds. Playwright ends it with the process.
 */
const sharedBrowser = async (): Promise<Browser> => {
  shared ??= launch()
  const browser = await shared
  if (browser.isConnected()) return browser
  shared = launch()
  return await shared
}

/** Servers, and a browser that Playwright drives. */
export const startWorld = async (options: WorldOptions = {}) => {
  const servers = await startServers(options)
  const isShared = !options.browserArgs && !options.bfcache
  const browser = await (isShared ? sharedBrowser() : launch(options))
  const contexts = new Set<BrowserContext>()

  return {
    ...servers,
    browser,

    /** A new browser profile: no cookies, no storage, no worker. */
    newProfile: async (contextOptions = {}) => {
      const context = await browser.newContext(contextOptions)
      context.setDefaultTimeout(limit(30_000))
      contexts.add(context)
      context.on('weberror', (error) => {
        const { stack = '' } = error.error()
        // What a test writes into a frame by hand answers for itself.
        if (!stack.includes('about:srcdoc')) servers.unhandled.push(stack)
      })
      return context
    },

    reset: async () => {
      for (const context of contexts) await context.close()
      contexts.clear()
      await servers.reset()
    },

    close: async () => {
      // Where a test has failed before its reset.
      for (const context of contexts) await context.close()
      if (!isShared) await browser.close()
      await servers.close()
    },
  }
}

export type World = Awaited<ReturnType<typeof startWorld>>

/** A world for the tests of a file or a `describe`: started before them, reset after each. */
export const useWorld = (options?: WorldOptions): World => {
  const world = {} as World
  beforeAll(async () => {
    Object.assign(world, await startWorld(options))
  })
  afterEach(() => world.reset())
  afterAll(() => world.close())
  return world
}

/** Opens the app and waits until the worker controls the page. */
export const openApp = async (context: BrowserContext, url: string): Promise<Page> => {
  const page = await context.newPage()
  await page.goto(url)
  await page.evaluate(() => window.auth.ready)
  return page
}

/** What makes a page go to the authorization server: the promise settles only if it comes back. */
export const startLogin = (page: Page, input: Parameters<TokenManager['login']>[0] = {}) =>
  page.evaluate((input) => {
    window.auth.login(input).catch(() => {})
  }, input)

/**
 * Does something that leaves the page, and waits until a page at `url` is loaded. Looks at nothing
 * meanwhile: a script that Playwright runs in the page that was left costs it its place in the
 * back/forward cache.
 */
export const arriveAt = async (
  page: Page,
  url: string,
  leave: () => Promise<unknown>,
): Promise<void> => {
  const arrived = page.waitForEvent('load', () => page.url().startsWith(url))
  await leave()
  await arrived
}

/** Does something that leaves the page, and waits until a page of the app is loaded and ready. */
export const landIn = async (
  page: Page,
  url: string,
  leave: () => Promise<unknown>,
): Promise<void> => {
  await arriveAt(page, new URL(url).origin, leave)
  await page.evaluate(() => window.auth.ready)
}

/** Signs in from the page, and waits until the app is back. */
export const signIn = async (page: Page, params?: Record<string, string>): Promise<Session> => {
  await landIn(page, page.url(), () => startLogin(page, params ? { params } : {}))
  const session = await sessionIn(page)
  if (!session) throw new Error('not signed in')
  return session
}

/** The session, as the page is told. */
export const sessionIn = (page: Page): Promise<Session | undefined> =>
  page.evaluate(() => window.auth.session())

/** What the page's listener has heard: each event's type, and its reason or error code. */
export const eventsIn = (page: Page): Promise<string[]> =>
  page.evaluate(() =>
    window.events.map((event) =>
      [event.type, 'reason' in event ? event.reason : '', 'error' in event ? event.error.code : '']
        .filter(Boolean)
        .join(' '),
    ),
  )

/** Waits until the page has heard of something, as `eventsIn` puts it. */
export const heard = (page: Page, event: string): Promise<unknown> =>
  page.waitForFunction(
    ([type, detail]) =>
      window.events.some(
        (event) =>
          event.type === type &&
          (!detail ||
            ('reason' in event && event.reason === detail) ||
            ('error' in event && event.error.code === detail)),
      ),
    event.split(' '),
  )

/** For the worker's options: frames that bring nothing are given up soon, but not too soon here. */
export const soonGivenUp = (seconds: number): string =>
  `silentLoginTimeout: ${Math.min(20, limit(seconds))},`

/** A page of the app that signed in by itself: for tests about that, DPoP, and tokens in memory. */
export const openAndSignIn = async (world: World, context?: BrowserContext): Promise<Page> => {
  const page = await openApp(context ?? (await world.newProfile()), world.url)
  await signIn(page)
  return page
}

/** A page with a signed-in user, in a new profile: the session is there before the app. */
export const openSignedIn = async (world: World, context?: BrowserContext): Promise<Page> => {
  const page = await openSeeded(world, context ?? (await world.newProfile()), async (page) => {
    await page.goto(world.url)
    await page.evaluate(() => window.auth.ready)
  })
  if (!(await sessionIn(page))) throw new Error('This profile has a database already: signIn()')
  return page
}

/** Fetches in the page: status and parsed body, or the name of the error. */
export const fetchIn = (
  page: Page,
  url: string,
  init?: RequestInit,
): Promise<{ status?: number; body?: unknown; error?: string }> =>
  page.evaluate(
    async ([url, init]) => {
      try {
        const response = await fetch(url, init)
        const text = await response.text()
        return {
          status: response.status,
          body: text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text,
        }
      } catch (error) {
        return { error: (error as Error).name }
      }
    },
    [url, init] as const,
  )

/** For `beforeWorker`: a worker whose clock `shiftClock` can move. It is right after a restart. */
export const movableClock = `
  const realNow = Date.now
  let clockOffset = 0
  Date.now = () => realNow() + clockOffset
  addEventListener('message', ({ data, ports }) => {
    if (data?.clockOffset === undefined) return
    clockOffset = data.clockOffset * 1000
    ports[0].postMessage('done')
  })`

/** Sets the worker's clock to so many seconds ahead of the real time. */
export const shiftClock = (page: Page, seconds: number): Promise<void> =>
  page.evaluate(
    (clockOffset) =>
      new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel()
        port1.onmessage = () => resolve()
        navigator.serviceWorker.controller?.postMessage({ clockOffset }, [port2])
      }),
    seconds,
  )

/** What stops every service worker of the browser, as it does itself when it likes. */
export const workerStopper = async (page: Page) => {
  const session = await page.context().newCDPSession(page)
  await session.send('ServiceWorker.enable')
  return {
    stop: async (): Promise<void> => {
      await session.send('ServiceWorker.stopAllWorkers')
    },
    detach: () => session.detach(),
  }
}

/** Stops every service worker of the browser, once. */
export const stopWorkers = async (page: Page): Promise<void> => {
  const { stop, detach } = await workerStopper(page)
  await stop()
  await detach()
}

/** Background Sync: has the browser fire the event, which without a user it may leave out. */
export const dispatchSync = async (page: Page, scope: string, tag: string): Promise<void> => {
  const session = await page.context().newCDPSession(page)
  const registration = new Promise<string>((resolve) => {
    session.on('ServiceWorker.workerRegistrationUpdated', ({ registrations }) => {
      const found = registrations.find(({ scopeURL }) => scopeURL === scope)
      if (found) resolve(found.registrationId)
    })
  })
  await session.send('ServiceWorker.enable')
  await session.send('ServiceWorker.dispatchSyncEvent', {
    origin: new URL(scope).origin,
    registrationId: await registration,
    tag,
    lastChance: false,
  })
  await session.detach()
}

/** The session record as it lies on the disk: docs/storage.md. */
export type StoredRecord = {
  status: 'active' | 'ended'
  accessTokenIssuedAt: number
  refreshSentAt?: number
  silentLoginWorks?: true
}

const openDatabase = (world: Pick<World, 'databaseName'>, page: Page) =>
  page.evaluateHandle(
    (name) =>
      new Promise<IDBDatabase>((resolve, reject) => {
        const request = indexedDB.open(name)
        request.onsuccess = () => resolve(request.result)
        request.onerror = () => reject(request.error)
      }),
    world.databaseName,
  )

/** Reads the record in the page, which any script of the origin can do. */
export const recordIn = async (world: World, page: Page): Promise<StoredRecord> => {
  const database = await openDatabase(world, page)
  const record = await database.evaluate(
    (db) =>
      new Promise<StoredRecord>((resolve) => {
        const request = db.transaction('session').objectStore('session').get('current')
        request.onsuccess = () => {
          db.close()
          resolve(request.result)
        }
      }),
  )
  await database.dispose()
  return record
}

/**
 * Lets an hour go by for the access token, and the server forget it: for the worker that runs and,
 * unlike `shiftClock`, for those that are started later.
 */
export const expireToken = async (
  world: Pick<World, 'as' | 'databaseName'>,
  page: Page,
): Promise<void> => {
  world.as.expireAccessTokens()
  const database = await openDatabase(world, page)
  await database.evaluate(
    (db) =>
      new Promise<void>((resolve) => {
        const tx = db.transaction('session', 'readwrite')
        const store = tx.objectStore('session')
        const request = store.get('current')
        request.onsuccess = () => {
          const record = request.result
          record.accessTokenIssuedAt -= 3_600_000
          record.accessTokenExpiresAt -= 3_600_000
          store.put(record, 'current')
        }
        tx.oncomplete = () => {
          db.close()
          resolve()
        }
      }),
  )
  await database.dispose()
  // The worker that runs reads it again.
  const session = await sessionIn(page)
  if (session?.state !== 'stale') throw new Error(`The session is ${session?.state}.`)
}

/** What an API was asked, preflights left out. */
export const requestsTo = (api: Pick<World['api'], 'requests'>, path: string) =>
  api.requests.filter((request) => request.path === path && request.method !== 'OPTIONS')

/** The refresh grants that the authorization server was asked for. */
export const refreshesAt = (as: World['as']) =>
  as.requests.filter(({ grantType }) => grantType === 'refresh_token')

/** The authorization requests that the authorization server was asked for. */
export const authorizationsAt = (as: World['as']) =>
  as.requests.filter(({ path }) => path === '/auth')

/** The events of a type that the page's listener has heard; an error as its code. */
export const eventsOf = (page: Page, type: SessionEvent['type']): Promise<object[]> =>
  page.evaluate(
    (type) =>
      window.events
        .filter((event) => event.type === type)
        .map((event) => ('error' in event ? { ...event, error: event.error.code } : event)),
    type,
  )
