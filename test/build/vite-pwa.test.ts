import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright-core'
import { createServer, type InlineConfig, preview, build as viteBuild } from 'vite'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { startApi } from '../../demo/api.mjs'
import { startAuthorizationServer } from '../../demo/authorization-server.mjs'
import { build } from '../../esbuild.config.mjs'
import { launchOptions } from '../support/browser.mjs'
import { fetchIn, sessionIn, signIn } from '../support/world.js'

// An app made with Vite and vite-plugin-pwa, as docs/pwa.md has it, in a real browser.

// Not by its types: what they bring along changes those of `fetch` in all tests.
const { VitePWA } = await import('vite-plugin-pwa' as string)

const repository = fileURLToPath(new URL('../..', import.meta.url))

const freePort = async (): Promise<number> => {
  const server = createHttpServer()
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

let browser: Browser
let port: number
let as: Awaited<ReturnType<typeof startAuthorizationServer>>
let api: Awaited<ReturnType<typeof startApi>>
let root: string

beforeAll(async () => {
  await build({ quiet: true })
  browser = await chromium.launch(await launchOptions())
  port = await freePort()
  const origin = `http://localhost:${port}`
  as = await startAuthorizationServer({
    autoSignIn: 'alice',
    clients: [
      {
        clientId: 'my-app',
        redirectUris: [`${origin}/tokenward/callback.html`],
        postLogoutRedirectUris: [`${origin}/tokenward/logout.html`],
        origins: [origin],
      },
    ],
  })
  api = await startApi({ origins: [origin], verify: as.verifyAccessToken })
})

afterAll(async () => {
  await Promise.all([browser.close(), as.close(), api.close()])
})

const write = async (path: string, text: string) => {
  await mkdir(dirname(join(root, path)), { recursive: true })
  await writeFile(join(root, path), text)
}

const options = () => `{
  issuer: '${as.issuer}',
  clientId: 'my-app',
  apis: ['${api.url}/'],
  scope: 'openid profile offline_access',
  authorizationParams: { prompt: 'consent' },
}`

const classicWorker = () =>
  `importScripts('/tokenward-worker.js')
  tokenward.createTokenWorker(${options()}).listen({ claim: true })`

beforeEach(async () => {
  // Inside the repository, where the app's dependencies are found, and tokenward among them.
  await mkdir(join(repository, '.cache'), { recursive: true })
  root = await mkdtemp(join(repository, '.cache', 'vite-'))
  await write('package.json', '{ "type": "module" }')
  await mkdir(join(root, 'node_modules'))
  await symlink(repository, join(root, 'node_modules', 'tokenward'), 'junction')
  // What `tokenward init` copies.
  await cp(join(repository, 'public', 'tokenward'), join(root, 'public', 'tokenward'), {
    recursive: true,
  })
  await cp(
    join(repository, 'dist', 'worker.classic.js'),
    join(root, 'public', 'tokenward-worker.js'),
  )
  await write(
    'index.html',
    `<!doctype html><html><head><title>app</title></head><body><h1></h1>
    <script type="module" src="/src/main.ts"></script></body></html>`,
  )
  await write(
    'src/auth.ts',
    `import { createTokenManager } from 'tokenward'
    export const auth = createTokenManager('/sw.js')
    Object.assign(window, { auth })`,
  )
  await write('src/view.ts', "export const title = 'before'")
  await write(
    'src/main.ts',
    `import '../auth'
    import { title } from '../view'
    const show = (title) => (document.querySelector('h1').textContent = title)
    show(title)
    import.meta.hot?.accept('./view', (view) => show(view.title))`,
  )
})

afterEach(() => rm(root, { recursive: true, force: true }))

const config = (pwa?: object): InlineConfig => ({
  root,
  configFile: false,
  logLevel: 'silent',
  clearScreen: false,
  server: { port, strictPort: true, host: 'localhost' },
  preview: { port, strictPort: true, host: 'localhost' },
  plugins: pwa ? [VitePWA({ injectRegister: false, ...pwa })] : [],
})

/** Runs `work` with the page of an app that is served. */
const visit = async (
  server: { close(): Promise<unknown> },
  work: (page: Page) => Promise<unknown>,
) => {
  const context = await browser.newContext()
  try {
    const page = await context.newPage()
    await page.goto(`http://localhost:${port}/`)
    await work(page)
  } finally {
    await context.close()
    await server.close()
  }
}

const expectReady = async (page: Page) => {
  await page.waitForFunction(() => 'auth' in window, undefined, { timeout: 5000 })
  expect(
    await page.evaluate(() => window.auth.ready.catch(({ message }) => message)),
  ).toBeUndefined()
}

const expectSignedIn = async (page: Page) => {
  expect(await sessionIn(page)).toMatchObject({ claims: { sub: 'alice' } })
  expect(await fetchIn(page, `${api.url}/me`)).toMatchObject({ status: 200 })
}

const expectSignIn = async (page: Page) => {
  await expectReady(page)
  await signIn(page)
  await expectSignedIn(page)
}

describe('a build with vite-plugin-pwa', () => {
  /** The page comes from the precache, whatever its path. */
  const expectPrecached = async (page: Page) => {
    await page.goto(`http://localhost:${port}/any/path`)
    await expectReady(page)
    await page.context().setOffline(true)
    await page.reload()
    expect(await page.title()).toBe('app')
    expect(await sessionIn(page)).toMatchObject({ claims: { sub: 'alice' } })
  }

  test('injectManifest: a worker of the app, with listen() first', async () => {
    await write(
      'src/sw.ts',
      `import { createTokenWorker } from 'tokenward/worker'
      import { createHandlerBoundToURL, precacheAndRoute } from 'workbox-precaching'
      import { NavigationRoute, registerRoute } from 'workbox-routing'
      createTokenWorker(${options()}).listen({ claim: true })
      precacheAndRoute(self.__WB_MANIFEST)
      registerRoute(new NavigationRoute(createHandlerBoundToURL('/index.html')))`,
    )
    const pwa = {
      strategies: 'injectManifest',
      srcDir: 'src',
      filename: 'sw.ts',
      injectManifest: { globIgnores: ['tokenward/**', 'tokenward-worker*.js'] },
    }
    await viteBuild(config(pwa))
    await visit(await preview(config(pwa)), async (page) => {
      await expectSignIn(page)
      await expectPrecached(page)
    })
  })

  test.each([false, true])(
    'generateSW: importScripts comes before the routes of Workbox (runtime inlined: %s)',
    async (inlineWorkboxRuntime) => {
      await write('public/token-worker.js', classicWorker())
      await write(
        'src/auth.ts',
        `import { createTokenManager } from 'tokenward'
        Object.assign(window, { auth: createTokenManager() })`,
      )
      const pwa = {
        injectRegister: 'script',
        workbox: {
          importScripts: ['/token-worker.js'],
          globIgnores: ['tokenward/**', 'token*-worker*.js'],
          navigateFallback: '/index.html',
          navigationPreload: false,
          inlineWorkboxRuntime,
        },
      }
      await viteBuild(config(pwa))
      const worker = await readFile(join(root, 'dist', 'sw.js'), 'utf8')
      expect(worker).toContain('NavigationRoute')
      await visit(await preview(config(pwa)), async (page) => {
        await expectSignIn(page)
        await expectPrecached(page)
      })
    },
  )
})

describe("Vite's dev server", () => {
  /** A change of one module shows at once, in the same page, with the same session and worker. */
  const expectHotUpdate = async (page: Page) => {
    const workerOf = () => page.evaluate(() => navigator.serviceWorker.controller?.scriptURL)
    const before = await workerOf()
    await page.evaluate(() => Object.assign(window, { samePage: true }))
    await write('src/view.ts', "export const title = 'after'")
    await page.waitForFunction(() => document.querySelector('h1')?.textContent === 'after')
    expect(await page.evaluate('samePage')).toBe(true)
    expect(await workerOf()).toBe(before)
    await expectSignedIn(page)

    // The module that makes the token manager makes a second one.
    const auth = await readFile(join(root, 'src/auth.ts'), 'utf8')
    await write('src/auth.ts', auth.replace('{ auth }', '{ auth, isSecond: true }'))
    await page.waitForFunction('window.isSecond')
    expect(await page.evaluate('samePage')).toBe(true)
    await expectReady(page)
    await expectSignedIn(page)
    await page.evaluate(() => window.auth.renew())
  }

  const serve = async (options: InlineConfig) => {
    // What Vite has to find by itself it prepares late, and then it reloads the page.
    const include = ['tokenward', 'tokenward/worker', 'workbox-precaching', 'workbox-routing']
    const server = await createServer({ ...options, optimizeDeps: { include } })
    return await server.listen()
  }

  const authModule = (call: string) => `
    import { createTokenManager } from 'tokenward'
    export const auth = ${call}
    Object.assign(window, { auth })
    import.meta.hot?.accept()
    import.meta.hot?.dispose(() => auth.close())`

  test('hot updates with a worker in public/', async () => {
    await write('public/sw.js', classicWorker())
    await write('src/auth.ts', authModule("createTokenManager('/sw.js')"))
    await visit(await serve(config()), async (page) => {
      await expectSignIn(page)
      await expectHotUpdate(page)
    })
  })

  test('hot updates with the worker that vite-plugin-pwa serves', async () => {
    await write(
      'src/sw.ts',
      `import { createTokenWorker } from 'tokenward/worker'
      import { createHandlerBoundToURL, precacheAndRoute } from 'workbox-precaching'
      import { NavigationRoute, registerRoute } from 'workbox-routing'
      createTokenWorker(${options()}).listen({ claim: true })
      precacheAndRoute(self.__WB_MANIFEST)
      if (import.meta.env.PROD) {
        registerRoute(new NavigationRoute(createHandlerBoundToURL('/index.html')))
      }`,
    )
    await write(
      'src/auth.ts',
      authModule("createTokenManager('/dev-sw.js?dev-sw', { type: 'module' })"),
    )
    const pwa = {
      strategies: 'injectManifest',
      srcDir: 'src',
      filename: 'sw.ts',
      devOptions: { enabled: true, type: 'module' },
    }
    await visit(await serve(config(pwa)), async (page) => {
      await expectSignIn(page)
      await expectHotUpdate(page)
    })
  })
})
