import type { BrowserContext, Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { startRecorder } from '../support/recorder.js'
import {
  eventsIn,
  fetchIn,
  landIn,
  openApp,
  sessionIn,
  signIn,
  startLogin,
  useWorld,
  type World,
} from '../support/world.js'

/** Parameters and members of the protocol that only the worker and the server may know. */
const secretNames = [
  'access_token',
  'refresh_token',
  'id_token',
  'id_token_hint',
  'code',
  'code_verifier',
  'code_challenge',
  'state',
  'nonce',
  'proof',
]

/** Collects the real secrets from what the browser sends, and from records of the worker. */
const collectSecrets = (context: BrowserContext) => {
  const secrets = new Map<string, string>()
  const collect = (name: string, value: string) => {
    // Any part of a JWT is as bad as the whole of it; its header is the same for all.
    const parts = value.split('.')
    for (const part of parts.length === 3 ? parts.slice(1) : [value]) secrets.set(part, name)
  }
  context.on('request', (request) => {
    const { authorization = '', dpop = '' } = request.headers()
    const [, token] = /^(?:Bearer|DPoP) (.+)/.exec(authorization) ?? []
    if (token) collect('access_token', token)
    if (dpop) collect('proof', dpop)
    for (const params of [new URL(request.url()).search, request.postData() ?? '']) {
      for (const [name, value] of new URLSearchParams(params)) {
        if (secretNames.includes(name)) collect(name, value)
      }
    }
  })
  return {
    secrets,
    fromRecords: (json: string) => {
      for (const [, name, value] of json.matchAll(
        /"(accessToken|refreshToken|idToken)":"(.+?)"/g,
      )) {
        collect((name ?? '').replace('Token', '_token'), value ?? '')
      }
    },
  }
}

/** The channel on which workers tell one another of a change; any page can listen in. */
const listenIn = (page: Page, name: string) =>
  page.evaluate((name) => {
    const channel = new BroadcastChannel(name)
    channel.onmessage = ({ data }) => window.record('broadcast', JSON.stringify(data))
    Object.assign(window, { channel })
  }, name)

/** All records of our own database, as any page script could read them. */
const readOwnDatabase = (page: Page, name: string): Promise<string> =>
  page.evaluate(async (name) => {
    const opening = indexedDB.open(name)
    await new Promise((resolve) => {
      opening.onsuccess = resolve
    })
    const db = opening.result
    const all = await Promise.all(
      [...db.objectStoreNames].map((store) => {
        const reading = db.transaction(store).objectStore(store).getAll()
        return new Promise((resolve) => {
          reading.onsuccess = () => resolve(reading.result)
        })
      }),
    )
    db.close()
    return JSON.stringify(all)
  }, name)

/** The site's access log; an API on the app's own origin is where a token has to arrive. */
const siteLog = ({ site }: World) =>
  JSON.stringify(
    site.requests.map(({ path, query, headers }) => ({
      path,
      query,
      headers: path.startsWith('/api/') ? { ...headers, authorization: '', dpop: '' } : headers,
    })),
  )

describe.each([
  ['by default', '', { names: secretNames.filter((name) => name !== 'proof') }],
  [
    'with every option',
    `dpop: tokenward.dpop(), idTokenSignature: tokenward.jwks(),`,
    { names: secretNames },
  ],
])('secrets, %s,', (_title, workerOptions, { names }) => {
  const trace = 'trace: (step) => console.debug(step),'
  const world = useWorld({
    workerOptions: trace + workerOptions,
    server: { dpopNonce: workerOptions !== '' },
  })
  const databaseName = () => world.databaseName

  test('are nowhere that a page script or the site’s server could see (AR-06, CB-01, ST-02, PV-01, PV-03)', async () => {
    const context = await world.newProfile()
    const recorder = await startRecorder(context, world.site.origin)
    const { secrets, fromRecords } = collectSecrets(context)
    const asked = new Set<string>()
    context.on('request', (request) => asked.add(new URL(request.url()).origin))
    let stored = ''
    const look = async (page: Page) => {
      await recorder.look(page, databaseName())
      const records = await readOwnDatabase(page, databaseName())
      fromRecords(records)
      stored += records
    }
    const callApis = async (page: Page) => {
      expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
      expect(await fetchIn(page, '/api/orders')).toMatchObject({ status: 200 })
    }

    const second = await openApp(context, `${world.url}other`)
    const page = await openApp(context, world.url)
    await listenIn(second, databaseName())
    await look(page)

    // Sign in, call.
    await signIn(page)
    await look(page)
    await callApis(page)

    // Refresh.
    world.as.expireAccessTokens()
    await callApis(page)
    await page.evaluate(() => window.auth.renew())
    await look(page)

    // Silent login: for a request, and asked for.
    world.as.expireAccessTokens()
    world.as.revokeRefreshTokens()
    await callApis(page)
    await page.evaluate(() => window.auth.checkSession())
    await look(page)

    // A sign-in again, one that fails, and one whose answer comes twice.
    let callback = ''
    context.on('request', (request) => {
      if (request.url().includes('callback.html?')) callback = request.url()
    })
    await landIn(page, world.url, () => startLogin(page, { returnTo: '/other?x=1#y' }))
    await landIn(page, world.url, () => page.goto(callback))
    await landIn(page, world.url, () => page.goto(callback.replace('state=', 'state=un')))
    await landIn(page, world.url, () => page.goto(callback.replace('?', '#')))
    await look(page)
    world.as.setFault({ path: '/token', kind: 'status', status: 400, times: 1 })
    await landIn(page, world.url, () => startLogin(page))
    await look(page)

    // Sign out.
    await page.evaluate(() => {
      window.auth.logout().catch(() => {})
    })
    await page.waitForSelector('button[name=logout]')
    await landIn(page, world.url, () => page.click('button[name=logout]'))
    expect(await sessionIn(page)).toBeUndefined()
    for (const each of [page, second]) await look(each)
    expect(await eventsIn(second)).toContain('signed-out logout')

    expect([...asked].sort()).toEqual(
      [world.site.origin, world.as.issuer, new URL(world.api.url).origin].sort(),
    )
    expect(new Set(secrets.values())).toEqual(new Set(names))
    expect(recorder.find(secrets)).toEqual([])
    expect([...secrets].filter(([secret]) => siteLog(world).includes(secret))).toEqual([])

    // Signed out, they are not even where they were.
    const left = await readOwnDatabase(page, databaseName())
    expect([...secrets].filter(([secret]) => left.includes(secret))).toEqual([])

    // The same search finds what the browser keeps for the worker, so it knows what to look for.
    const kept = [...secrets].filter(([secret]) => stored.includes(secret)).map(([, name]) => name)
    expect(kept).toContain('access_token')
    expect(kept).toContain('refresh_token')
    const places = new Set(recorder.sightings.map(({ where }) => where))
    for (const where of ['broadcast', 'console', 'frame', 'message', 'performance', 'response']) {
      expect(places, where).toContain(where)
    }
  })
})

describe('secrets that are planted', () => {
  const world = useWorld()
  const databaseName = () => world.databaseName

  test('are found in every one of these places', async () => {
    const context = await world.newProfile()
    const recorder = await startRecorder(context, world.site.origin)
    const page = await openApp(context, world.url)
    await listenIn(page, databaseName())
    const plant = async ([secret, channelName]: readonly [string, string]) => {
      localStorage.setItem('a', secret)
      // biome-ignore lint/suspicious/noDocumentCookie: the worst case is what is planted
      document.cookie = `a=${secret}`
      window.name = secret
      history.replaceState({ secret }, '')
      document.body.dataset['secret'] = secret
      Object.assign(window, { planted: { deep: new Map([['a', [{ secret }]]]) } })
      performance.mark(secret)
      console.log({ secret })
      postMessage({ secret })
      new BroadcastChannel(channelName).postMessage({ secret })
      await fetch(`/?a=${secret}`)
      await (await caches.open('a')).put(`/a?${secret}`, new Response())
      const opening = indexedDB.open('another')
      opening.onupgradeneeded = () => opening.result.createObjectStore('a')
      await new Promise((resolve) => {
        opening.onsuccess = resolve
      })
      const writing = opening.result.transaction('a', 'readwrite')
      writing.objectStore('a').put({ secret }, 'a')
      await new Promise((resolve) => {
        writing.oncomplete = resolve
      })
      opening.result.close()
      const frame = document.createElement('iframe')
      frame.src = `/tokenward/done.html?${secret}`
      const loaded = new Promise((resolve) => {
        frame.onload = resolve
      })
      document.body.append(frame)
      await loaded
      location.hash = secret
      void navigator.locks.request(secret, () => new Promise(() => {}))
    }
    const secret = 'canary-6f1d2c9a'
    await page.evaluate(plant, [secret, databaseName()] as const)
    await recorder.look(page, databaseName())
    expect(recorder.find(new Map([[secret, 'it']]))).toEqual(
      [
        'broadcast',
        'cache',
        'console',
        'cookie',
        'database',
        'document',
        'frame',
        'globals',
        'history',
        'location',
        'locks',
        'message',
        'performance',
        'response',
        'web storage',
        'window.name',
      ].map((where) => `it in ${where}`),
    )
    expect(siteLog(world)).toContain(secret)
  })
})
