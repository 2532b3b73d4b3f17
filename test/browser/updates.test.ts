import { readFile } from 'node:fs/promises'
import * as esbuild from 'esbuild'
import type { Page } from 'playwright-core'
import { afterEach, describe, expect, test } from 'vitest'
import { common } from '../../esbuild.config.mjs'
import {
  arriveAt,
  eventsIn,
  expireToken,
  fetchIn,
  landIn,
  openApp,
  openSignedIn,
  refreshesAt,
  sessionIn,
  startLogin,
  useWorld,
} from '../support/world.js'

// A new version of the worker takes over, at the worst of times.

const world = useWorld()
const asAlice = { status: 200, body: { sub: 'alice' } }
const me = (page: Page) => fetchIn(page, `${world.api.url}/me`)

const alarmsIn = async (page: Page) =>
  (await eventsIn(page)).filter((event) => !/^(state|renewed)/.test(event))

/** What an app does that wants its users to have a new version at once. */
const atOnce = "addEventListener('install', () => skipWaiting())"

/** The browser finds the new version that the site serves. */
const findUpdate = (page: Page) =>
  page.evaluate(async () => {
    const registration = await navigator.serviceWorker.ready
    await registration.update()
  })

/**
 * The worker that is in charge now, for a test that waits for the next one to take its place. The
 * browser ends a worker for that as soon as it has nothing to do. But where a call comes just then,
 * it starts the old one again; and as long as DevTools looks, it never ends it a second time.
 */
const workerInCharge = async (page: Page) => {
  const session = await page.context().newCDPSession(page)
  const found = new Promise<string>((resolve) => {
    session.on('ServiceWorker.workerVersionUpdated', ({ versions }) => {
      const active = versions.find(({ status }) => status === 'activated')
      if (active) resolve(active.versionId)
    })
  })
  await session.send('ServiceWorker.enable')
  const versionId = await found
  return {
    end: async () => {
      await session.send('ServiceWorker.stopWorker', { versionId })
      await session.detach()
    },
  }
}

/** Has a new worker control the page, once it is installed. Begin before it is found. */
const takesOver = async (page: Page) => {
  const old = await workerInCharge(page)
  const handle = await page.evaluateHandle(async () => {
    const { serviceWorker } = navigator
    const registration = await serviceWorker.ready
    const installed = new Promise<void>((resolve) => {
      registration.onupdatefound = () => {
        registration.installing?.addEventListener('statechange', () => resolve())
      }
    })
    const taken = new Promise<void>((resolve) => {
      serviceWorker.addEventListener('controllerchange', () => resolve(), { once: true })
    })
    return { installed, taken }
  })
  return async () => {
    await handle.evaluate(({ installed }) => installed)
    await old.end()
    await handle.evaluate(({ taken }) => taken)
  }
}

const grantsOf = (type: string) =>
  world.as.requests.filter(({ grantType }) => grantType === type).map(({ status }) => status)

describe('a new version that does not wait', () => {
  test('while a refresh is under way: one token request, and nothing is lost (CF-12)', async () => {
    const page = await openSignedIn(world)
    await expireToken(world, page)
    // The server has replaced the refresh token, and its answer takes its time.
    const grantType = 'refresh_token'
    world.as.setFault({ path: '/token', grantType, kind: 'delay-after', ms: 1000, times: 1 })
    const answers = Promise.all([me(page), fetchIn(page, '/api/me')])
    await world.as.waitForRequest((request) => request.grantType === grantType)
    world.useWorker('', atOnce)
    await findUpdate(page)
    // The old version stays as long as it has work, and until the browser notices that it has
    // none any more: seconds later, so what follows goes to either.
    expect(await me(page)).toMatchObject(asAlice)
    expect(await answers).toMatchObject([asAlice, asAlice])
    expect(await me(page)).toMatchObject(asAlice)
    expect(grantsOf(grantType)).toEqual([200])
    expect(await sessionIn(page)).toMatchObject({ state: 'fresh' })
    expect(await alarmsIn(page)).toEqual([])
  })

  test('leaves no call of a page without an answer (BR-05)', async () => {
    const page = await openSignedIn(world)
    for (const version of [2, 3, 4]) {
      world.useWorker('', `${atOnce} // version ${version}`)
      const old = await workerInCharge(page)
      const handle = await page.evaluateHandle(async () => {
        const registration = await navigator.serviceWorker.ready
        const before = registration.active
        const steps: string[] = []
        const calls: Promise<unknown>[] = []
        const ask = (step: string) => {
          steps.push(step)
          calls.push(window.auth.session(), window.auth.renew())
        }
        /** Asks at each state of the new worker. Resolves at this one, when all is answered. */
        const stateOf = (worker: ServiceWorker | null, wanted: ServiceWorkerState) =>
          new Promise<unknown>((resolve) => {
            worker?.addEventListener('statechange', () => {
              if (worker.state !== wanted) return
              ask(`new ${wanted}`)
              resolve(Promise.all(calls))
            })
          })
        const found = new Promise<ServiceWorker | null>((resolve) => {
          registration.onupdatefound = () => {
            ask('found')
            resolve(registration.installing)
          }
        })
        const inControl = new Promise<void>((resolve) => {
          const onChange = () => {
            ask('control')
            resolve()
          }
          navigator.serviceWorker.addEventListener('controllerchange', onChange, { once: true })
        })
        before?.addEventListener('statechange', () => ask(`old ${before.state}`), { once: true })
        ask('update')
        registration.update()
        const worker = await found
        const installed = stateOf(worker, 'installed')
        const activating = stateOf(worker, 'activating')
        const activated = stateOf(worker, 'activated')
        const all = async () => {
          await Promise.all([activating, activated, inControl])
          await Promise.all(calls)
          return steps.sort()
        }
        return { installed, all }
      })
      await handle.evaluate(({ installed }) => installed)
      await old.end()
      expect(await handle.evaluate(({ all }) => all())).toEqual([
        'control',
        'found',
        'new activated',
        'new activating',
        'new installed',
        'old redundant',
        'update',
      ])
    }
    expect(await alarmsIn(page)).toEqual([])
  })

  test('while the user signs in, and while the code is exchanged (CF-12)', async () => {
    world.as.setAutoSignIn(undefined)
    const context = await world.newProfile()
    const other = await openApp(context, `${world.url}other`)
    const page = await openApp(context, world.url)
    await arriveAt(page, world.as.issuer, () => startLogin(page))
    world.useWorker('', `${atOnce} // second version`)
    const taken = await takesOver(other)
    await findUpdate(other)
    await taken()

    const grantType = 'authorization_code'
    world.as.setFault({ path: '/token', grantType, kind: 'delay-after', ms: 1000, times: 1 })
    await page.fill('[name=login]', 'alice')
    await page.fill('[name=password]', 'demo')
    await page.click('button[name=submit]')
    await page.waitForSelector('button[value=allow]')
    await landIn(page, world.url, async () => {
      await page.click('button[value=allow]', { noWaitAfter: true })
      await world.as.waitForRequest((request) => request.grantType === grantType)
      world.useWorker('', `${atOnce} // third version`)
      await findUpdate(other)
    })
    for (const tab of [page, other]) {
      expect(await sessionIn(tab)).toMatchObject({ claims: { sub: 'alice' } })
      expect(await me(tab)).toMatchObject(asAlice)
    }
    expect(grantsOf(grantType)).toEqual([200])
    expect(await eventsIn(page)).toEqual([])
  })
})

test('a new version waits, unless the app says otherwise (CF-12)', async () => {
  const page = await openSignedIn(world)
  world.useWorker('', '// a new version')
  const versions = await page.evaluate(async () => {
    const registration = await navigator.serviceWorker.ready
    const before = registration.active
    const found = new Promise<ServiceWorker | null>((resolve) => {
      registration.onupdatefound = () => resolve(registration.installing)
    })
    await registration.update()
    const worker = await found
    while (worker?.state === 'installing') {
      await new Promise((resolve) => {
        worker.onstatechange = resolve
      })
    }
    // What a page asks of the worker does not move a new one either.
    await window.auth.renew()
    const { active, waiting } = registration
    const { controller } = navigator.serviceWorker
    return [active === before, controller === before, waiting === worker]
  })
  expect(versions).toEqual([true, true, true])
  expect(await me(page)).toMatchObject(asAlice)
})

describe('a version with another protocol and a later database', () => {
  /** The library as it would be with another number. */
  const build = async (entry: string, options: esbuild.BuildOptions) => {
    const { outputFiles } = await esbuild.build({
      ...(common as esbuild.BuildOptions),
      ...options,
      entryPoints: [entry],
      write: false,
      plugins: [
        {
          name: 'another protocol',
          setup: ({ onLoad }) =>
            onLoad({ filter: /shared\/protocol\.ts$/ }, async ({ path }) => ({
              contents: (await readFile(path, 'utf8')).replace('PROTOCOL = 1', 'PROTOCOL = 2'),
              loader: 'ts',
            })),
        },
      ],
    })
    return outputFiles?.[0]?.text ?? ''
  }

  const outcome = (page: Page) =>
    page.evaluate(() => {
      const calls = [window.auth.session(), window.auth.renew(), window.auth.checkSession()]
      return Promise.all(
        calls.map((call: Promise<unknown>) =>
          call.then(
            () => 'done',
            ({ code }) => code,
          ),
        ),
      )
    })

  const library = { page: '', worker: '' }
  afterEach(() => {
    if (!library.page) return
    world.site.addFile('/tokenward.js', { body: library.page })
    world.site.addFile('/tokenward-worker.js', { body: library.worker })
  })

  test('comes and is taken back: requests go on, calls say bridge_version, a reload is enough (BR-09, ST-07)', async () => {
    const read = async (path: string) => (await fetch(world.site.origin + path)).text()
    library.page = await read('/tokenward.js')
    library.worker = await read('/tokenward-worker.js')
    const page = await openSignedIn(world)

    const takeOver = async (pageLibrary: string, workerLibrary: string, code: string) => {
      world.site.addFile('/tokenward.js', { body: pageLibrary })
      world.site.addFile('/tokenward-worker.js', { body: workerLibrary })
      world.useWorker('', `${atOnce};${code}`)
      const taken = await takesOver(page)
      await findUpdate(page)
      await taken()
      // The page is of the version before.
      expect(await me(page)).toMatchObject(asAlice)
      world.as.expireAccessTokens()
      const refreshes = refreshesAt(world.as).length
      expect(await me(page)).toMatchObject(asAlice)
      expect(refreshesAt(world.as)).toHaveLength(refreshes + 1)
      expect(await outcome(page)).toEqual(Array(3).fill('bridge_version'))
      expect(await alarmsIn(page)).toEqual([])
      await page.reload()
      await page.evaluate(() => window.auth.ready)
      expect(await outcome(page)).toEqual(Array(3).fill('done'))
      expect(await me(page)).toMatchObject(asAlice)
      expect(await alarmsIn(page)).toEqual([])
    }

    await takeOver(
      await build('src/index.ts', { format: 'esm' }),
      await build('sw/index.ts', { format: 'iife', globalName: 'tokenward' }),
      `addEventListener('activate', (event) => event.waitUntil(new Promise((resolve, reject) => {
        const request = indexedDB.open('${world.databaseName}', 2)
        request.onupgradeneeded = () => request.result.createObjectStore('later')
        request.onsuccess = () => resolve(request.result.close())
        request.onerror = reject
      })))`,
    )
    await takeOver(library.page, library.worker, '// the version before')
    const database = await page.evaluate(
      async (name) => (await indexedDB.databases()).find((each) => each.name === name),
      world.databaseName,
    )
    expect(database?.version).toBe(2)
  })
})
