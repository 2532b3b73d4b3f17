import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Page } from 'playwright-core'
import { afterEach, describe, expect, test } from 'vitest'
import {
  expireToken,
  fetchIn,
  openAndSignIn,
  recordIn,
  signIn,
  stopWorkers,
  useWorld,
} from '../support/world.js'

// An API whose answers the browser may keep, and that does not say for whom: browsers do not look
// at Authorization when they look into their cache.

/** Who asked, each time that the API was asked. */
let asked: string[] = []

const answerForTenMinutes = async (request: IncomingMessage, response: ServerResponse) => {
  const token = request.headers.authorization?.split(' ')[1]
  const user = (token && (await world.as.verifyAccessToken(token))?.sub) ?? 'nobody'
  asked.push(user)
  const headers = { 'cache-control': 'private, max-age=600', etag: '"version-1"' }
  // A version that says nothing about the user: a revalidation would confirm anybody's answer.
  const isKnown = request.headers['if-none-match'] !== undefined
  response.writeHead(isKnown ? 304 : 200, { ...headers, 'content-type': 'application/json' })
  response.end(isKnown ? undefined : JSON.stringify({ user }))
}

const world = useWorld({
  mounts: { '/cached/': answerForTenMinutes },
  workerOptions: "apis: ['/cached/'],",
})
afterEach(() => {
  asked = []
})

const ask = async (page: Page, init: RequestInit = {}, path = '/cached/basket') => {
  const { body, error } = await fetchIn(page, path, init)
  return error ?? (body as { user: string }).user
}

const become = async (page: Page, user: 'alice' | 'bob') => {
  world.as.endSessions()
  world.as.setAutoSignIn(user)
  await signIn(page)
}

const logout = (page: Page) => page.evaluate(() => window.auth.logout({ local: true }))

describe('the HTTP cache', () => {
  test('serves one user alone, over renewals, restarts and sign-outs (IN-16)', async () => {
    const page = await openAndSignIn(world)
    expect([await ask(page), await ask(page)]).toEqual(['alice', 'alice'])
    await expireToken(world, page)
    expect(await ask(page)).toBe('alice')
    await stopWorkers(page)
    expect(await ask(page)).toBe('alice')
    await become(page, 'alice')
    expect(await ask(page)).toBe('alice')
    expect(asked).toEqual(['alice'])
    expect(await recordIn(world, page)).not.toHaveProperty('usersChanged', true)
  })

  test('gives nothing of one user to the next, whatever the page asks (IN-16)', async () => {
    const page = await openAndSignIn(world)
    expect(await ask(page)).toBe('alice')
    await become(page, 'bob')
    for (const cache of ['default', 'force-cache', 'no-cache', 'reload', 'no-store'] as const) {
      expect(await ask(page, { cache }), cache).toBe('bob')
    }
    // What was kept of him is nothing for her, either.
    await become(page, 'alice')
    expect(await ask(page, { cache: 'force-cache' })).toBe('alice')
    expect(asked).toEqual(['alice', ...Array(5).fill('bob'), 'alice'])
  })

  test('gives nothing to the next user after a sign-out and a restart (IN-16, SE-08)', async () => {
    const page = await openAndSignIn(world)
    expect(await ask(page)).toBe('alice')
    await logout(page)
    await stopWorkers(page)
    await become(page, 'bob')
    expect(await ask(page)).toBe('bob')
    await stopWorkers(page)
    expect(await ask(page)).toBe('bob')
    expect(asked).toEqual(['alice', 'bob', 'bob'])
  })

  test('gives nothing to a page where she has signed out (IN-16)', async () => {
    const page = await openAndSignIn(world)
    expect(await ask(page)).toBe('alice')
    await logout(page)
    expect(await ask(page)).toBe('nobody')
    await stopWorkers(page)
    expect(await ask(page, { cache: 'force-cache' })).toBe('nobody')
    expect(asked).toEqual(['alice', 'nobody', 'nobody'])
  })
})

test('a 401 after which somebody else is signed in is not sent again as them (SI-07, SE-07)', async () => {
  const context = await world.newProfile()
  world.useWorker("apis: ['/cached/', '/api/']")
  const page = await openAndSignIn(world, context)
  const other = await openAndSignIn(world, context)
  await fetchIn(page, '/api/me')
  world.sameOriginApi.rejectCurrentTokens()
  const grantType = 'refresh_token'
  world.as.setFault({ path: '/token', grantType, kind: 'delay', ms: 3000, times: 1 })
  const body = JSON.stringify({ item: 'Tea' })
  const waiting = fetchIn(page, '/api/orders', { method: 'POST', body })
  await world.as.waitForRequest((request) => request.grantType === grantType)
  await become(other, 'bob')
  expect(await waiting).toEqual({ error: 'TypeError' })
  const posts = world.sameOriginApi.requests.filter(({ method }) => method === 'POST')
  expect(posts.map(({ status }) => status)).toEqual([401])
})

test('nothing of the last user is on the disk when a page hears of the next (SE-08)', async () => {
  const context = await world.newProfile()
  const page = await openAndSignIn(world, context)
  const other = await openAndSignIn(world, context)
  // The first thing that the other page hears of the change makes it look at the record.
  await other.evaluate((name) => {
    const seen: string[] = []
    Object.assign(window, { seen })
    window.auth.onChange(() => {
      const opening = indexedDB.open(name)
      opening.onsuccess = () => {
        const reading = opening.result.transaction('session').objectStore('session').getAll()
        reading.onsuccess = () => seen.push(JSON.stringify(reading.result))
      }
    })
  }, world.databaseName)
  await become(page, 'bob')
  await other.waitForFunction(() => (window as unknown as { seen: string[] }).seen.length >= 2)
  const seen = await other.evaluate(() => (window as unknown as { seen: string[] }).seen)
  for (const record of seen) {
    expect(record).toContain('"sub":"bob"')
    expect(record).not.toContain('alice')
  }
})
