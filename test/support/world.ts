// A whole world for one browser test file: authorization server, API, web site and browser.
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { createApiHandler, startApi } from '../../demo/api.mjs'
import { startAuthorizationServer } from '../../demo/authorization-server.mjs'
import { startSite } from '../../demo/site.mjs'
import type { Session, SessionEvent, TokenManager } from '../../src/index.js'
import { launchOptions } from './browser.mjs'

const fromRoot = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

export interface WorldOptions {
  /** Folder of the app on its site: its scope. */
  base?: string
  /** Source of more properties for the worker's options. */
  workerOptions?: string
  /** Source that runs in the worker before `createTokenWorker`. */
  beforeWorker?: string
  /** Source that runs in the worker after it. */
  afterWorker?: string
  /** What the page calls. */
  managerCall?: string
  /** More for `startAuthorizationServer`. */
  server?: Partial<Parameters<typeof startAuthorizationServer>[0]>
  /** `false`: the sign-in pages are shown. Default: everybody is alice at once. */
  autoSignIn?: 'alice' | 'bob' | 'carol' | false
}

declare global {
  interface Window {
    auth: TokenManager
    events: SessionEvent[]
    tokenward: typeof import('../../src/index.js')
  }
}

export const startWorld = async (options: WorldOptions = {}) => {
  const base = options.base ?? '/'
  let world: { as?: Awaited<ReturnType<typeof startAuthorizationServer>> } = {}
  const sameOriginApi = createApiHandler({
    verify: (token: string) => world.as?.verifyAccessToken(token),
  })
  const site = await startSite({ roots: [], mounts: { '/api/': sameOriginApi.handle } })
  const clientId = 'test-app'
  const client = {
    clientId,
    redirectUris: [`${site.origin}${base}tokenward/callback.html`],
    postLogoutRedirectUris: [`${site.origin}${base}tokenward/logout.html`],
    origins: [site.origin],
  }
  const as = await startAuthorizationServer({
    clients: [client],
    ...(options.autoSignIn !== false && { autoSignIn: options.autoSignIn ?? 'alice' }),
    ...options.server,
  })
  world = { as }
  const api = await startApi({ origins: [site.origin], verify: as.verifyAccessToken })

  const workerSource = (workerOptions = '') => `
    importScripts('/tokenward-worker.js')
    ${options.beforeWorker ?? ''}
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
  const pageSource = `<!doctype html><meta charset="utf-8"><title>test app</title>
    <link rel="icon" href="data:,">
    <h1>test app</h1>
    <script type="module">
      import * as tokenward from '/tokenward.js'
      window.tokenward = tokenward
      window.events = []
      window.auth = ${options.managerCall ?? `tokenward.createTokenManager('${base}sw.js')`}
      auth.onChange((event) => events.push(event))
    </script>`
  const library = (path: string) => readFile(fromRoot(path), 'utf8')
  site.addFile('/tokenward-worker.js', { body: await library('dist/worker.classic.js') })
  site.addFile('/tokenward.js', { body: await library('dist/page.standalone.js') })
  site.addFile(`${base}sw.js`, { body: workerSource() })
  site.addFile(base, { body: pageSource, type: 'text/html' })
  site.addFile(`${base}other`, { body: pageSource, type: 'text/html' })

  const browser: Browser = await chromium.launch(await launchOptions())
  const contexts = new Set<BrowserContext>()

  return {
    as,
    api,
    sameOriginApi,
    site,
    browser,
    clientId,
    /** URL of the app. */
    url: site.origin + base,
    workerSource,
    pageSource,

    /** A new browser profile: no cookies, no storage, no worker. */
    newProfile: async (contextOptions = {}) => {
      const context = await browser.newContext(contextOptions)
      contexts.add(context)
      return context
    },

    /** Back to the state of the start, for the next test. */
    reset: async () => {
      for (const context of contexts) await context.close()
      contexts.clear()
      as.setFault(undefined)
      as.setAccessTokenSeconds(300)
      as.setAutoSignIn(options.autoSignIn === false ? undefined : (options.autoSignIn ?? 'alice'))
      as.clearRequests()
      api.clearRequests()
      site.clearRequests()
      sameOriginApi.clearRequests()
      site.setHeaders(() => undefined)
      site.addFile(`${base}sw.js`, { body: workerSource() })
    },

    close: async () => {
      await browser.close()
      await Promise.all([as.close(), api.close(), site.close()])
    },
  }
}

export type World = Awaited<ReturnType<typeof startWorld>>

/** Opens the app and waits until the worker controls the page. */
export const openApp = async (context: BrowserContext, url: string): Promise<Page> => {
  const page = await context.newPage()
  await page.goto(url)
  await page.evaluate(() => window.auth.ready)
  return page
}

/** Signs in from the page, and waits until the app is back. */
export const signIn = async (page: Page, params?: Record<string, string>): Promise<Session> => {
  const back = page.waitForURL((url) => !url.pathname.includes('/tokenward/'), {
    waitUntil: 'load',
  })
  // The page is left, so the promise never settles; waiting for the navigation is enough.
  await page.evaluate(
    (input) => {
      window.auth.login(input).catch(() => {})
    },
    params ? { params } : {},
  )
  await page.waitForEvent('framenavigated')
  await back
  await page.waitForFunction(() => window.auth !== undefined)
  await page.evaluate(() => window.auth.ready)
  const session = await page.evaluate(() => window.auth.session())
  if (!session) throw new Error('not signed in')
  return session
}

/** A page with a signed-in user. */
export const openSignedIn = async (world: World, context?: BrowserContext): Promise<Page> => {
  const page = await openApp(context ?? (await world.newProfile()), world.url)
  await signIn(page)
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

/** Stops every service worker of the browser, as it does itself when it likes. */
export const stopWorkers = async (page: Page): Promise<void> => {
  const session = await page.context().newCDPSession(page)
  await session.send('ServiceWorker.enable')
  await session.send('ServiceWorker.stopAllWorkers')
  await session.detach()
}
