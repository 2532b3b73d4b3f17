import { text } from 'node:stream/consumers'
import type { BrowserContext, Page } from 'playwright-core'
import { afterEach, describe, expect, test } from 'vitest'
import { limit } from '../support/machine.mjs'
import {
  eventsIn,
  fetchIn,
  heard,
  landIn,
  openAndSignIn,
  openApp,
  openSignedIn,
  refreshesAt,
  sessionIn,
  signIn,
  startLogin,
  stopWorkers,
  useWorld,
  type World,
  type WorldOptions,
} from '../support/world.js'

/** What the token endpoint was sent and what it answered, as the worker tells this test. */
const tokenCalls: { sent: Record<string, string>; got: Record<string, string> }[] = []
afterEach(() => {
  tokenCalls.length = 0
})

const telling: WorldOptions = {
  server: { consentRemembered: true, issueRefreshTokenAlways: true },
  mounts: {
    '/told/': async (request, response) => {
      tokenCalls.push(JSON.parse(await text(request)))
      response.writeHead(204).end()
    },
  },
  beforeWorker: `
    const realFetch = fetch
    self.fetch = async (input, init) => {
      const response = await realFetch(input, init)
      if (String(input).endsWith('/token')) {
        const sent = Object.fromEntries(init.body)
        const body = JSON.stringify({ sent, got: await response.clone().json() })
        await realFetch('/told/', { method: 'POST', body })
      }
      return response
    }`,
}

const world = useWorld(telling)

const asAlice = { status: 200, body: { sub: 'alice' } }
const me = (page: Page, { api }: World = world) => fetchIn(page, `${api.url}/me`)

/** All that was secret so far, each with its name. Any part of a JWT is as bad as the whole. */
const watchSecrets = (context: BrowserContext) => {
  const fromUrls = new Map<string, string>()
  context.on('request', (request) => {
    for (const [name, value] of new URL(request.url()).searchParams) {
      if (/^(state|nonce|code|ticket)$/.test(name)) fromUrls.set(value, name)
    }
  })
  return () => {
    const secrets = new Map(fromUrls)
    for (const { sent, got } of tokenCalls) {
      for (const [name, value = ''] of Object.entries({ ...sent, ...got })) {
        if (!/^(code|code_verifier|(access|refresh|id)_token)$/.test(name)) continue
        const parts = value.split('.')
        for (const part of parts.length === 3 ? parts.slice(1) : [value]) secrets.set(part, name)
      }
    }
    return secrets
  }
}

/** Everything that the origin has stored in the browser. */
const everythingStored = (page: Page): Promise<string> =>
  page.evaluate(async () => {
    const done = <T>(request: IDBRequest<T>) =>
      new Promise<T>((resolve, reject) => {
        request.onsuccess = () => resolve(request.result)
        request.onerror = () => reject(request.error)
      })
    const found: unknown[] = [{ ...localStorage }, { ...sessionStorage }, document.cookie]
    found.push(location.href, history.state, window.name)
    for (const { name = '' } of await indexedDB.databases()) {
      const db = await done(indexedDB.open(name))
      for (const store of db.objectStoreNames) {
        const objects = db.transaction(store).objectStore(store)
        found.push(name, store, await done(objects.getAllKeys()), await done(objects.getAll()))
      }
      db.close()
    }
    for (const name of await caches.keys()) {
      const cache = await caches.open(name)
      for (const request of await cache.keys()) {
        const response = await cache.match(request)
        found.push(request.url, [...request.headers], await response?.text())
      }
    }
    return JSON.stringify(found)
  })

/** The names of the secrets that are stored. */
const storedSecrets = async (page: Page, secrets: ReturnType<typeof watchSecrets>) => {
  const stored = await everythingStored(page)
  const names = [...secrets()].filter(([secret]) => stored.includes(secret)).map(([, name]) => name)
  return [...new Set(names)].sort()
}

const logoutLocally = (page: Page) => page.evaluate(() => window.auth.logout({ local: true }))

/** What somebody does who is shown the server's own page. */
const signInByHand = (page: Page) =>
  landIn(page, world.url, async () => {
    await page.fill('[name=login]', 'alice')
    await page.fill('[name=password]', 'demo')
    await page.click('button[name=submit]')
    const consent = page.waitForSelector('button[value=allow]').then((button) => button.click())
    await Promise.race([consent.catch(() => {}), page.waitForURL(`${world.url}**`)])
  })

/** What a user would notice. */
const alarmsIn = async (page: Page) =>
  (await eventsIn(page)).filter((event) => !/^(state|renewed)/.test(event))

/** Another version of the worker takes over. */
const update = async (page: Page, workerOptions: string) => {
  world.useWorker(workerOptions, "addEventListener('install', () => skipWaiting())")
  await page.evaluate(async () => {
    const taken = new Promise((resolve) => {
      navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true })
    })
    const registration = await navigator.serviceWorker.ready
    await registration.update()
    await taken
  })
}

const databasesIn = (page: Page) =>
  page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name))

describe("with storage: 'memory'", () => {
  const memory = "storage: 'memory', authorizationParams: {},"

  test('no token is at rest, and a stopped worker signs in silently, unnoticed (ST-01, ST-02)', async () => {
    world.useWorker(memory)
    const context = await world.newProfile()
    const secrets = watchSecrets(context)
    const page = await openAndSignIn(world, context)
    expect(await me(page)).toMatchObject(asAlice)
    expect(await storedSecrets(page, secrets)).toEqual([])

    await stopWorkers(page)
    const before = await eventsIn(page)
    expect(await sessionIn(page)).toMatchObject({ claims: { sub: 'alice' }, state: 'stale' })
    const answers = await Promise.all([me(page), me(page), fetchIn(page, '/api/me')])
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200])
    expect(await alarmsIn(page)).toEqual(before)
    expect(refreshesAt(world.as)).toEqual([])
    expect(tokenCalls.map(({ sent }) => sent['grant_type'])).toEqual([
      'authorization_code',
      'authorization_code',
    ])
    expect(await sessionIn(page)).toMatchObject({ state: 'fresh' })

    // A worker that is not stopped uses its refresh token.
    await page.evaluate(() => window.auth.renew())
    expect(refreshesAt(world.as)).toHaveLength(1)
    expect(await storedSecrets(page, secrets)).toEqual([])
    expect(new Set(secrets().values())).toEqual(
      new Set([
        ...['access_token', 'refresh_token', 'id_token', 'code', 'code_verifier'],
        ...['state', 'nonce', 'ticket'],
      ]),
    )

    await logoutLocally(page)
    expect(await me(page)).toMatchObject({ status: 401 })
    expect(await storedSecrets(page, secrets)).toEqual([])
  })

  test('a sign-in outlives a worker that is stopped meanwhile', async () => {
    world.useWorker(memory)
    world.as.setAutoSignIn(undefined)
    const page = await openApp(await world.newProfile(), world.url)
    await startLogin(page)
    await page.waitForSelector('[name=login]')
    await stopWorkers(page)
    await signInByHand(page)
    expect(await me(page)).toMatchObject(asAlice)
  })

  test('the tokens of a version without it are gone from the disk (ST-01)', async () => {
    const context = await world.newProfile()
    const secrets = watchSecrets(context)
    const page = await openAndSignIn(world, context)
    expect(await storedSecrets(page, secrets)).toEqual([
      'access_token',
      'id_token',
      'refresh_token',
    ])
    await update(page, memory)
    expect(await me(page)).toMatchObject(asAlice)
    expect(await storedSecrets(page, secrets)).toEqual([])
    expect(await alarmsIn(page)).toEqual([])
  })
})

describe('after a sign-out', () => {
  test('nothing that was secret is stored anywhere (SE-01, ST-02, AR-12)', async () => {
    const context = await world.newProfile()
    const secrets = watchSecrets(context)
    const page = await openAndSignIn(world, context)
    expect(await me(page)).toMatchObject(asAlice)
    await page.evaluate(() => window.auth.renew())
    await page.evaluate(() => window.auth.checkSession())
    // A sign-in in another tab that stays under way.
    world.as.setAutoSignIn(undefined)
    world.as.endSessions()
    const second = await openApp(context, `${world.url}other`)
    await startLogin(second, { params: { prompt: 'login' } })
    await second.waitForSelector('[name=login]')
    expect(await storedSecrets(page, secrets)).toEqual([
      ...['access_token', 'id_token', 'nonce', 'refresh_token'],
    ])

    await logoutLocally(page)
    expect(await storedSecrets(page, secrets)).toEqual([])

    // What that tab comes back with signs nobody in.
    await signInByHand(second)
    await heard(second, 'problem unsolicited_callback')
    expect(await sessionIn(second)).toBeUndefined()
    expect(await storedSecrets(page, secrets)).toEqual([])
  })
})

describe('storage that is cleared under the worker', () => {
  const clear = async (page: Page, storageTypes: string) => {
    const session = await page.context().newCDPSession(page)
    const { origin } = new URL(world.url)
    await session.send('Storage.clearDataForOrigin', { origin, storageTypes })
    await session.detach()
  }

  test('signs out in every tab, once, with the next request at the latest (ST-10)', async () => {
    const context = await world.newProfile()
    const second = await openApp(context, `${world.url}other`)
    const page = await openAndSignIn(world, context)
    await heard(second, 'signed-in')
    await clear(page, 'indexeddb')
    expect(await me(page)).toMatchObject({ status: 401 })
    for (const tab of [page, second]) await heard(tab, 'signed-out storage_cleared')
    expect(await me(second)).toMatchObject({ status: 401 })
    for (const tab of [page, second]) {
      const events = await eventsIn(tab)
      expect(events.filter((event) => event.startsWith('signed-out'))).toHaveLength(1)
    }
    await signIn(page)
    expect(await me(second)).toMatchObject(asAlice)
  })

  test('signs out where the worker was not running, too (ST-10)', async () => {
    const page = await openSignedIn(world)
    await stopWorkers(page)
    await clear(page, 'indexeddb')
    expect(await me(page)).toMatchObject({ status: 401 })
    await heard(page, 'signed-out storage_cleared')
  })
})

describe('a database that is full of nonsense', () => {
  test('does not keep the worker from starting, nor anybody from signing in (CB-12, ST-08)', async () => {
    const page = await openSignedIn(world)
    await page.evaluate(async (name) => {
      const db = await new Promise<IDBDatabase>((resolve) => {
        const request = indexedDB.open(name)
        request.onsuccess = () => resolve(request.result)
      })
      const tx = db.transaction(['session', 'transactions', 'server'], 'readwrite')
      const nonsense = { status: 'active', claims: 5, retry: { failures: 1n } }
      tx.objectStore('session').put(nonsense, 'current')
      tx.objectStore('transactions').put({ kind: 'login', createdAt: 1n }, 'x')
      tx.objectStore('server').put({ metadata: 5, fetchedAt: 1n }, 'metadata')
      await new Promise((resolve) => {
        tx.oncomplete = resolve
      })
      db.close()
    }, world.databaseName)
    await stopWorkers(page)
    expect(await me(page)).toMatchObject({ status: 401 })
    await heard(page, 'problem storage_failed')
    await heard(page, 'signed-out storage_cleared')
    await signIn(page)
    expect(await me(page)).toMatchObject(asAlice)
  })

  test('and of a newer version is used as it is (ST-07)', async () => {
    const page = await openSignedIn(world)
    await page.evaluate(
      (name) =>
        new Promise<void>((resolve, reject) => {
          const request = indexedDB.open(name, 99)
          request.onupgradeneeded = () => request.result.createObjectStore('later')
          request.onerror = reject
          request.onsuccess = () => {
            request.result.close()
            resolve()
          }
        }),
      world.databaseName,
    )
    await stopWorkers(page)
    expect(await me(page)).toMatchObject(asAlice)
    expect(await alarmsIn(page)).toEqual([])
  })
})

describe('a page that keeps a transaction of the database open', () => {
  /** One request after the other, for as long as the page likes. */
  const hold = (page: Page) =>
    page.evaluate(
      (name) =>
        new Promise<void>((resolve, reject) => {
          const opening = indexedDB.open(name)
          opening.onerror = () => reject(opening.error)
          opening.onsuccess = () => {
            const db = opening.result
            const tx = db.transaction([...db.objectStoreNames], 'readwrite')
            const ask = () => {
              const request = tx.objectStore('session').get('current')
              request.onsuccess = () => {
                resolve()
                if (!('isReleased' in window)) ask()
              }
            }
            tx.oncomplete = () => db.close()
            ask()
          }
        }),
      world.databaseName,
    )
  const release = (page: Page) => page.evaluate(() => Object.assign(window, { isReleased: true }))

  test('keeps no request and no sign-in waiting for longer than 6 s (ST-07)', async () => {
    const context = await world.newProfile()
    const page = await openSignedIn(world, context)
    const visitor = await context.newPage()
    await hold(page)
    await stopWorkers(page)
    const startedAt = performance.now()
    const [answer] = await Promise.all([
      me(page),
      visitor.goto(`${world.url}tokenward/callback.html?code=x&state=y`),
    ])
    expect(answer).toEqual({ error: 'TypeError' })
    expect(new URL(visitor.url()).pathname).toBe('/')
    expect(performance.now() - startedAt).toBeLessThan(limit(20_000))
    await release(page)
    await expect.poll(async () => await me(page)).toMatchObject(asAlice)
    expect(await sessionIn(page)).toMatchObject({ claims: { sub: 'alice' }, state: 'fresh' })
  })
})

describe('another client id', () => {
  test('leaves no database with a refresh token behind (ST-09)', async () => {
    const page = await openSignedIn(world)
    expect(await databasesIn(page)).toContain(world.databaseName)
    await update(page, "clientId: 'another-app',")
    await page.reload()
    await page.evaluate(() => window.auth.ready)
    await page.waitForFunction(
      async (name) => !(await indexedDB.databases()).some((database) => database.name === name),
      world.databaseName,
    )
    expect(await sessionIn(page)).toBeUndefined()
  })
})
