import { cp, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright-core'
import { build, createServer, preview } from 'vite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openApp, openSignedIn, signIn, useWorld } from '../support/world.js'

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

describe('where the worker is passed by, nobody reads the code', () => {
  /** What the page can learn of a frame or window that was sent to the callback. */
  const openAnswer = (page: Page, kind: 'iframe' | 'sandboxed' | 'credentialless' | 'popup') =>
    page.evaluate(
      async ([url, kind]) => {
        const told: unknown[] = []
        addEventListener('message', ({ data }) => told.push(data))
        let opened: Window | null | undefined
        if (kind === 'popup') {
          opened = open(url)
        } else {
          const frame = document.createElement('iframe')
          if (kind === 'sandboxed') frame.setAttribute('sandbox', 'allow-scripts')
          if (kind === 'credentialless') frame.setAttribute('credentialless', '')
          frame.src = url
          await new Promise((resolve) => {
            frame.onload = resolve
            document.body.append(frame)
          })
          opened = frame.contentWindow
        }
        try {
          return { read: opened?.location.href, told }
        } catch (error) {
          return { error: (error as Error).name, told }
        }
      },
      [answerOfServer, kind] as const,
    )

  const callbacks = () =>
    world.site.requests.filter(({ path }) => path === '/tokenward/callback.html')

  test.each(['iframe', 'credentialless'] as const)(
    'by a registration that is gone: %s (CB-13, M5)',
    async (kind) => {
      const page = await openSignedIn(world)
      await page.evaluate(async () => {
        await (await navigator.serviceWorker.getRegistration())?.unregister()
      })
      expect(await openAnswer(page, kind)).toEqual({ error: 'SecurityError', told: [] })
      expect(callbacks()).toHaveLength(1)
    },
  )

  test('by a sandboxed frame (CB-13, M6)', async () => {
    const page = await openSignedIn(world)
    expect(await openAnswer(page, 'sandboxed')).toEqual({ error: 'SecurityError', told: [] })
    expect(callbacks()).toHaveLength(1)
  })

  test('by a window that was opened: its opener loses it (CB-13, M7)', async () => {
    const page = await openSignedIn(world)
    await page.evaluate(async () => {
      await (await navigator.serviceWorker.getRegistration())?.unregister()
    })
    const popup = page.waitForEvent('popup')
    await page.evaluate((url) => {
      Object.assign(window, { popup: open(url) })
    }, answerOfServer)
    await (await popup).waitForURL((url) => url.pathname === '/tokenward/callback.html')
    const read = await page.evaluate(() => {
      const { popup } = window as unknown as { popup: Window }
      try {
        return popup.closed ? 'closed' : popup.location.href
      } catch (error) {
        return (error as Error).name
      }
    })
    expect(['closed', 'SecurityError']).toContain(read)
  })

  test('by a worker with a narrower scope that answers nothing (CB-13, M8)', async () => {
    const page = await openSignedIn(world)
    world.site.addFile('/narrow.js', { body: 'addEventListener("fetch", () => {})' })
    await page.evaluate(async () => {
      const options = { scope: '/tokenward/' }
      const { installing } = await navigator.serviceWorker.register('/narrow.js', options)
      await new Promise<void>((resolve) => {
        installing?.addEventListener('statechange', () => {
          if (installing.state === 'activated') resolve()
        })
      })
    })
    expect(await openAnswer(page, 'iframe')).toEqual({ error: 'SecurityError', told: [] })
    expect(callbacks()).toHaveLength(1)
  })

  test('by navigation preload: the user is signed in all the same (CB-18, F5)', async () => {
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

  test('not by a deployed script that throws: the worker that works stays (CB-13, M11)', async () => {
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
    const { read } = (await openAnswer(page, 'iframe')) as { read?: string }
    expect(read ?? '').not.toContain('SECRET')
    expect(callbacks()).toEqual([])
  })
})

test('with the worker there, the network never sees an answer (CB-01)', async () => {
  const page = await openSignedIn(world)
  await page.evaluate(() => window.auth.checkSession())
  const paths = world.site.requests.map(({ path }) => path)
  expect(paths.filter((path) => path.startsWith('/tokenward/'))).toEqual([])
  const queries = world.site.requests.map(({ query }) => query)
  expect(queries.filter((query) => /code=|state=|ticket=/.test(query))).toEqual([])
})
