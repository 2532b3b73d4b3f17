import type { Page } from 'playwright-core'
import { beforeEach, describe, expect, test } from 'vitest'
import { eventsIn, fetchIn, heard, openApp, sessionIn, signIn, useWorld } from '../support/world.js'

// `app.test` leads to this machine, but the browser does not know it as a loopback host.
const HOST = 'app.test'

const world = useWorld({ browserArgs: [`--host-resolver-rules=MAP ${HOST} localhost`] })

/** How `ready` ends: with nothing, or with the error's name, code and message. */
const readyOf = (page: Page): Promise<{ name?: string; code?: string; message?: string }> =>
  page.evaluate(() =>
    window.auth.ready.then(
      () => ({}),
      ({ name, code, message }) => ({ name, code, message }),
    ),
  )

const isReady = (page: Page): Promise<boolean> =>
  page.evaluate(() => Promise.race([window.auth.ready.then(() => true), Promise.resolve(false)]))

const isControlled = (page: Page): Promise<boolean> =>
  page.evaluate(() => navigator.serviceWorker.controller !== null)

/** A page at `/case` whose token manager is made by `call`, in a new profile. */
const openCase = async (call: string, prepare?: (page: Page) => unknown): Promise<Page> => {
  world.site.addFile('/case', { body: world.pageFor(call), type: 'text/html' })
  const page = await (await world.newProfile()).newPage()
  await prepare?.(page)
  await page.goto(`${world.site.origin}/case`)
  return page
}

/** Replaces the app's worker script, until the test is over. */
const serveWorker = (body: string | (() => Promise<string>)) =>
  world.site.addFile('/sw.js', { body })

/** A file that answers once it is told to. */
const addGate = (path: string, body: string) => {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  world.site.addFile(path, { body: () => opened.then(() => body) })
  return open
}

const untilAsked = (path: string) => world.site.waitForRequest((request) => request.path === path)

/** What a worker prepares for before it is installed, as a precache on a slow line would. */
const slowInstall = `self.addEventListener('install', (event) => {
  event.waitUntil(fetch('/gate').then((response) => response.text()))
})`

/** Makes the page's clock stand still, so that a test can turn it on past every time limit. */
const holdTime = (page: Page) => page.clock.install()

describe('ready', () => {
  test('resolves on a first visit, once the worker controls the page (BR-10)', async () => {
    const page = await openApp(await world.newProfile(), world.url)
    expect(await isControlled(page)).toBe(true)
    const registration = await page.evaluate(async () => {
      const found = await navigator.serviceWorker.getRegistration()
      return { updateViaCache: found?.updateViaCache, scope: found?.scope }
    })
    expect(registration).toEqual({ updateViaCache: 'none', scope: world.url })
  })

  test('resolves on a first visit with a worker that claims no page by itself', async () => {
    serveWorker(world.workerSource().replace('claim: true', 'claim: false'))
    const page = await openApp(await world.newProfile(), world.url)
    expect(await isControlled(page)).toBe(true)
  })

  test('resolves after a reload, and requests carry the token again', async () => {
    const page = await openApp(await world.newProfile(), world.url)
    await signIn(page)
    await page.reload()
    expect(await readyOf(page)).toEqual({})
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
  })

  test('resolves after a reload with Shift, which leaves the page uncontrolled', async () => {
    const page = await openApp(await world.newProfile(), world.url)
    await signIn(page)
    await page.addInitScript(() => {
      Object.assign(window, { controlledAtFirst: navigator.serviceWorker.controller !== null })
    })
    const devtools = await page.context().newCDPSession(page)
    const loaded = page.waitForEvent('load')
    await devtools.send('Page.reload', { ignoreCache: true })
    await loaded
    expect(await page.evaluate('controlledAtFirst')).toBe(false)
    expect(await readyOf(page)).toEqual({})
    expect(await isControlled(page)).toBe(true)
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
  })

  test('waits for a worker that is slow to arrive, in every page that was there before', async () => {
    let send = () => {}
    const sent = new Promise<void>((resolve) => {
      send = resolve
    })
    serveWorker(() => sent.then(() => world.workerSource()))
    const context = await world.newProfile()
    const pages = [await context.newPage(), await context.newPage()]
    for (const page of pages) await page.goto(world.url)
    await untilAsked('/sw.js')
    expect(await Promise.all(pages.map(isReady))).toEqual([false, false])
    send()
    expect(await Promise.all(pages.map(readyOf))).toEqual([{}, {}])
    expect(await Promise.all(pages.map(isControlled))).toEqual([true, true])
  })

  test('waits as long as a worker is being installed, past every time limit (BR-10)', async () => {
    const open = addGate('/gate', 'done')
    serveWorker(`${world.workerSource()}; ${slowInstall}`)
    const context = await world.newProfile()
    const page = await context.newPage()
    await holdTime(page)
    await page.goto(world.url)
    await untilAsked('/gate')
    await page.clock.fastForward('05:00')
    expect(await isReady(page)).toBe(false)
    open()
    expect(await readyOf(page)).toEqual({})
    expect(await isControlled(page)).toBe(true)
  })

  test('lets session() wait for the worker on a first visit', async () => {
    const open = addGate('/gate', 'done')
    serveWorker(`${world.workerSource()}; ${slowInstall}`)
    const page = await (await world.newProfile()).newPage()
    await page.goto(world.url)
    const session = sessionIn(page)
    await untilAsked('/gate')
    open()
    expect(await session).toBeUndefined()
  })
})

describe('a worker that other code registers', () => {
  // That code has no policy for Trusted Types here; what tokenward does with them: csp.test.ts.
  beforeEach(() =>
    world.usePolicy({ page: { 'worker-src': "'self'", 'require-trusted-types-for': undefined } }),
  )

  test('is adopted', async () => {
    const page = await openCase('tokenward.createTokenManager()', (page) =>
      page.addInitScript(() => navigator.serviceWorker.register('/sw.js')),
    )
    expect(await readyOf(page)).toEqual({})
    expect(await isControlled(page)).toBe(true)
  })

  test('is adopted when it is registered after the manager was made', async () => {
    const page = await openCase('tokenward.createTokenManager()')
    expect(await isReady(page)).toBe(false)
    await page.evaluate(() => navigator.serviceWorker.register('/sw.js'))
    expect(await readyOf(page)).toEqual({})
    expect(await isControlled(page)).toBe(true)
  })

  test('is adopted by its scope where another worker covers the page too', async () => {
    const context = await world.newProfile()
    await openApp(context, world.url)
    const body = world.pageFor("tokenward.createTokenManager(undefined, { scope: '/nested/' })")
    world.site.addFile('/nested/', { body, type: 'text/html' })
    world.site.addFile('/nested/sw.js', { body: world.workerSource() })
    const page = await context.newPage()
    await page.goto(`${world.site.origin}/nested/`)
    expect(await isReady(page)).toBe(false)
    await page.evaluate(() => navigator.serviceWorker.register('/nested/sw.js'))
    expect(await readyOf(page)).toEqual({})
    const script = await page.evaluate(() => navigator.serviceWorker.controller?.scriptURL)
    expect(script).toBe(`${world.site.origin}/nested/sw.js`)
  })

  test('is waited for while it is being installed (BR-10)', async () => {
    const open = addGate('/gate', 'done')
    serveWorker(`${world.workerSource()}; ${slowInstall}`)
    const page = await openCase('tokenward.createTokenManager()', holdTime)
    await page.evaluate(() => navigator.serviceWorker.register('/sw.js'))
    await untilAsked('/gate')
    await page.clock.fastForward('05:00')
    expect(await isReady(page)).toBe(false)
    open()
    expect(await readyOf(page)).toEqual({})
  })

  test('is missed with no_registration where nobody registers one', async () => {
    const page = await openCase('tokenward.createTokenManager()', holdTime)
    await page.clock.fastForward('00:11')
    const { code, message } = await readyOf(page)
    expect(code).toBe('no_registration')
    expect(message).toContain("createTokenManager('/sw.js')")
  })
})

describe('ready says why not', () => {
  const call = "tokenward.createTokenManager('/sw.js')"

  test('unsupported: this browser has no service workers (BR-10)', async () => {
    const page = await openCase(call, (page) =>
      page.addInitScript(() => {
        Reflect.deleteProperty(Navigator.prototype, 'serviceWorker')
      }),
    )
    expect(await readyOf(page)).toMatchObject({ name: 'TokenError', code: 'unsupported' })
    const failure = page.evaluate(() => window.auth.login().catch(({ code }) => code))
    expect(await failure).toBe('unsupported')
  })

  test('insecure_context: the app is not on https (BR-10)', async () => {
    const page = await (await world.newProfile()).newPage()
    await page.goto(world.url.replace('localhost', HOST))
    const { code, message } = await readyOf(page)
    expect(code).toBe('insecure_context')
    expect(message).toContain('https')
  })

  const badScripts: [name: string, expected: RegExp, serve: () => void][] = [
    ['is missing', /404/, () => world.site.removeFile('/sw.js')],
    [
      'is the app shell',
      /MIME type/,
      () => world.site.addFile('/sw.js', { body: '<!doctype html>', type: 'text/html' }),
    ],
    ['throws', /evaluation/, () => serveWorker("throw new Error('no')")],
    ['has a typing error', /evaluation/, () => serveWorker('const = 1')],
    [
      'is forbidden by worker-src',
      /Content Security Policy/,
      () => world.usePolicy({ page: { 'worker-src': "'none'" } }),
    ],
  ]
  for (const [name, expected, serve] of badScripts) {
    test(`worker_script_failed: the script ${name} (BR-10)`, async () => {
      serve()
      const { code, message } = await readyOf(await openCase(call))
      expect(code).toBe('worker_script_failed')
      expect(message).toMatch(expected)
      expect(message).toContain('/sw.js')
      expect(message).toContain('worker-src')
    })
  }

  test('worker_script_failed: the installation fails', async () => {
    const fail = "(event) => event.waitUntil(Promise.reject(new Error('no')))"
    serveWorker(`self.addEventListener('install', ${fail})`)
    const { code, message } = await readyOf(await openCase(call))
    expect(code).toBe('worker_script_failed')
    expect(message).toContain('console')
  })

  test('worker_order: another listener answers first (BR-10)', async () => {
    const shell = "self.addEventListener('fetch', (e) => e.respondWith(fetch(e.request)))"
    serveWorker(`${shell}; ${world.workerSource()}`)
    const { code, message } = await readyOf(await openCase(call))
    expect(code).toBe('worker_order')
    expect(message).toContain('listen()')
  })

  test('no_token_worker: there is no tokenward in the worker (BR-10)', async () => {
    serveWorker("self.addEventListener('activate', () => self.clients.claim())")
    const page = await openCase(call, holdTime)
    // Each try ends with a time limit of its own.
    await page.evaluate(async () => {
      await navigator.serviceWorker.ready
    })
    const ready = readyOf(page)
    await page.clock.runFor('00:11')
    const { code, message } = await ready
    expect(code).toBe('no_token_worker')
    expect(message).toContain('/sw.js')
  })

  test('not_controlled: the worker cannot take control (BR-10)', async () => {
    serveWorker(
      `self.clients.claim = async () => {}; ${world.workerSource().replace('claim: true', '')}`,
    )
    const page = await openCase(call, holdTime)
    await page.evaluate(() => window.auth.session())
    const ready = readyOf(page)
    await page.clock.runFor('00:06')
    expect(await ready).toMatchObject({ code: 'not_controlled' })
  })

  test('out_of_scope: the page lies outside the scope of the worker', async () => {
    const page = await openCase("tokenward.createTokenManager('/sw.js', { scope: '/app/' })")
    const { code, message } = await readyOf(page)
    expect(code).toBe('out_of_scope')
    expect(message).toContain(`${world.site.origin}/app/`)
  })

  test('worker_script_failed: the scope lies above the folder of the script', async () => {
    world.usePolicy({ page: { 'worker-src': "'self'" } })
    world.site.addFile('/deep/sw.js', { body: world.workerSource() })
    const page = await openCase("tokenward.createTokenManager('/deep/sw.js', { scope: '/' })")
    const { code, message } = await readyOf(page)
    expect(code).toBe('worker_script_failed')
    expect(message).toContain('scope')
  })
})

describe('wrong options in the worker', () => {
  const wrongOptions = "clientSecret: 'hush',"

  test('are told by ready, with the option and the remedy, on a first visit (CF-02)', async () => {
    serveWorker(world.workerSource(wrongOptions))
    const page = await openCase("tokenward.createTokenManager('/sw.js')")
    const { code, message } = await readyOf(page)
    expect(code).toBe('invalid_configuration')
    expect(message).toContain('clientSecret')
    expect(message).toContain('public client')
  })

  test('are told on every later visit too', async () => {
    serveWorker(world.workerSource(wrongOptions))
    const page = await openCase("tokenward.createTokenManager('/sw.js')")
    // The reason and the failure race each other to the page.
    for (let visits = 0; visits < 5; visits++) {
      await page.reload()
      expect(await readyOf(page)).toMatchObject({ code: 'invalid_configuration' })
    }
  })

  test('do not replace a worker that works: it stays in charge, pages hear of it', async () => {
    const page = await openApp(await world.newProfile(), world.url)
    await signIn(page)
    serveWorker(world.workerSource(wrongOptions))
    await page.evaluate(async () => {
      const registration = await navigator.serviceWorker.getRegistration()
      await registration?.update().catch(() => {})
    })
    await heard(page, 'problem invalid_configuration')
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
    await page.reload()
    expect(await readyOf(page)).toEqual({})
    expect(await sessionIn(page)).toMatchObject({ claims: { sub: 'alice' } })
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
  })
})

describe('two managers in one page', () => {
  test('share the work: both hear events, one frame is opened', async () => {
    const page = await openApp(await world.newProfile(), world.url)
    await signIn(page)
    await page.evaluate(async () => {
      const second = window.tokenward.createTokenManager('/sw.js')
      const heardBySecond: string[] = []
      const frames: string[] = []
      second.onChange(({ type }) => heardBySecond.push(type))
      new MutationObserver((records) => {
        for (const { addedNodes } of records) {
          for (const { nodeName } of addedNodes) if (nodeName === 'IFRAME') frames.push(nodeName)
        }
      }).observe(document.body, { childList: true })
      Object.assign(window, { heardBySecond, frames })
      await second.ready
    })
    world.as.revokeRefreshTokens()
    world.as.expireAccessTokens()
    world.as.clearRequests()
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
    expect(await page.evaluate('frames')).toEqual(['IFRAME'])
    const silent = world.as.requests.filter(({ query }) => query.includes('prompt=none'))
    expect(silent).toHaveLength(1)
    expect(await page.evaluate('heardBySecond')).toEqual(await page.evaluate(eventTypes))
    expect(await eventsIn(page)).toContain('renewed')
  })
})

const eventTypes = () => window.events.map(({ type }) => type)

describe('an app under a sub-path', () => {
  const app = useWorld({ base: '/app/' })

  test('signs in with all auth paths below its scope, and leaves the rest alone', async () => {
    const page = await openApp(await app.newProfile(), app.url)
    await signIn(page)
    expect(page.url()).toBe(app.url)
    const { query } = await app.as.waitForRequest(({ path }) => path === '/auth')
    const redirectUri = new URLSearchParams(query).get('redirect_uri')
    expect(redirectUri).toBe(`${app.url}tokenward/callback.html`)
    expect(await fetchIn(page, `${app.api.url}/me`)).toMatchObject({ status: 200 })

    app.site.addFile('/', { body: '<!doctype html><title>another app</title>', type: 'text/html' })
    await page.goto(`${app.site.origin}/`)
    expect(await isControlled(page)).toBe(false)
    expect(await fetchIn(page, `${app.api.url}/me`)).toMatchObject({ status: 401 })
  })
})
