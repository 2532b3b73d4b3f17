import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { anyServer } from '../support/strict-policy.js'
import {
  expireToken,
  fetchIn,
  openSignedIn,
  refreshesAt,
  requestsTo,
  useWorld,
} from '../support/world.js'

const world = useWorld()

declare global {
  interface Window {
    /** Of the call that is given up next. */
    controller: AbortController
    /** How that ended: its status, or the name of the error. */
    outcome: Promise<number | string>
  }
}

/** Begins a call that `giveUp` aborts. */
const call = (page: Page, url: string, init: RequestInit = {}, as: 'url' | 'Request' = 'url') =>
  page.evaluate(
    ([url, init, as]) => {
      const { abortableFetch } = window.tokenward
      window.controller = new AbortController()
      const { signal } = window.controller
      const sent =
        as === 'Request'
          ? abortableFetch(new Request(url, { ...init, signal }))
          : abortableFetch(url, { ...init, signal })
      window.outcome = sent.then(
        ({ status }) => status,
        ({ name }) => name,
      )
    },
    [url, init, as] as const,
  )

const giveUp = (page: Page) =>
  page.evaluate(() => {
    window.controller.abort()
    return window.outcome
  })

/** The API's log, preflights and all, in a form that shows whatever a request has with it. */
const everything = () => JSON.stringify(world.api.requests)

describe('an aborted abortableFetch', () => {
  test('closes the connection to the API before there is an answer (IN-14)', async () => {
    const page = await openSignedIn(world)
    const ways = [
      [{}, 'url'],
      [{ method: 'POST', body: 'text' }, 'url'],
      [{}, 'Request'],
      [{ method: 'POST', body: 'text', headers: { 'x-own': '1' } }, 'Request'],
    ] as const
    for (const [index, [init, as]] of ways.entries()) {
      const is = ({ query, method }: { query: string; method: string }) =>
        query === `ms=60000&n=${index}` && method !== 'OPTIONS'
      const arrived = world.api.waitForRequest(is)
      await call(page, `${world.api.url}/slow?ms=60000&n=${index}`, init, as)
      await arrived
      expect(await giveUp(page)).toBe('AbortError')
      const request = await world.api.waitForRequest((each) => is(each) && each.status === 0)
      expect(request).toMatchObject({ authorization: 'bearer' })
    }
    const own = requestsTo(world.api, '/slow').at(-1)
    expect(own).toMatchObject({ method: 'POST', headers: { 'x-own': '1', 'content-length': '4' } })
    // What is nobody's business but the worker's has not left the browser.
    expect(everything()).not.toContain('cancel')
  })

  test('is not sent again after a 401, though the token is renewed (IN-14, RF-05)', async () => {
    const page = await openSignedIn(world)
    await fetchIn(page, `${world.api.url}/me`)
    world.api.rejectCurrentTokens()
    world.as.setFault({ path: '/token', kind: 'delay', ms: 500, times: 1 })
    const renewal = world.as.waitForRequest(({ grantType }) => grantType === 'refresh_token')
    await call(page, `${world.api.url}/orders`, { method: 'POST', body: '{}' })
    await renewal
    expect(await giveUp(page)).toBe('AbortError')
    await page.waitForFunction(() => window.events.some(({ type }) => type === 'renewed'))
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
    expect(requestsTo(world.api, '/orders').map(({ status }) => status)).toEqual([401])
    expect(refreshesAt(world.as).map(({ status }) => status)).toEqual([200])
  })

  test('is never sent if it was waiting for a token, and the next call has it', async () => {
    const page = await openSignedIn(world)
    await expireToken(world, page)
    world.as.setFault({ path: '/token', kind: 'delay', ms: 500, times: 1 })
    const renewal = world.as.waitForRequest(({ grantType }) => grantType === 'refresh_token')
    await call(page, `${world.api.url}/orders`)
    await renewal
    expect(await giveUp(page)).toBe('AbortError')
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
    expect(requestsTo(world.api, '/orders')).toEqual([])
    expect(refreshesAt(world.as)).toHaveLength(1)
  })

  test('ends the answer while that is coming in, as fetch does', async () => {
    const page = await openSignedIn(world)
    const outcome = await page.evaluate(async (url) => {
      const controller = new AbortController()
      const { signal } = controller
      const response = await window.tokenward.abortableFetch(url, { signal })
      const reader = response.body?.getReader()
      await reader?.read()
      controller.abort()
      const error = await reader?.read().catch(({ name }) => name)
      return { error, url: response.url }
    }, `${world.api.url}/stream?count=1000000&ms=5`)
    expect(outcome.error).toBe('AbortError')
    expect(outcome.url).not.toContain('#')
    await world.api.waitForRequest(({ path, status }) => path === '/stream' && status === 200)
  })
})

test('abortableFetch without anything to abort, or without a worker, is fetch', async () => {
  world.usePolicy(anyServer)
  const context = await world.newProfile({ serviceWorkers: 'block' })
  const bare = await context.newPage()
  await bare.goto(world.url)
  await call(bare, `${world.api.url}/open`)
  expect(await bare.evaluate(() => window.outcome)).toBe(200)
  // No header of its own, so no preflight either.
  expect(world.api.requests.map(({ method }) => method)).toEqual(['GET'])
  expect(everything()).not.toContain('cancel')

  const page = await openSignedIn(world)
  const answers = await page.evaluate(async (url) => {
    const { abortableFetch } = window.tokenward
    const aborted = abortableFetch(url, { signal: AbortSignal.abort('why') }).catch(
      (reason) => reason,
    )
    return [
      (await abortableFetch(url)).status,
      (await abortableFetch(new URL(url), { signal: null })).status,
      await aborted,
      // With a signal, by a path, to what is no API of ours.
      (await abortableFetch('other', { signal: new AbortController().signal })).url,
    ]
  }, `${world.api.url}/me`)
  expect(answers).toEqual([200, 200, 'why', `${world.url}other`])
})
