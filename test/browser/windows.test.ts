import type { BrowserContext, Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import {
  heard,
  landIn,
  openSignedIn,
  refreshesAt,
  requestsTo,
  startLogin,
  useWorld,
} from '../support/world.js'

const world = useWorld({ server: { consentRemembered: true } })

/** Opens a window from the page, as an app does. */
const openWindow = async (context: BrowserContext, page: Page, features: string) => {
  const opened = context.waitForEvent('page')
  await page.evaluate(([url, features]) => void window.open(url, '', features), [
    `${world.url}other`,
    features,
  ] as const)
  const other = await opened
  await other.waitForLoadState()
  await other.evaluate(() => window.auth.ready)
  return other
}

const me = (page: Page) =>
  page.evaluate(async (url) => (await fetch(url)).status, `${world.api.url}/me`)

test('windows that the app has opened share one session and one renewal (RF-01, SE-05)', async () => {
  const context = await world.newProfile()
  const page = await openSignedIn(world, context)
  const popup = await openWindow(context, page, 'popup,width=300,height=300')
  const apart = await openWindow(context, page, 'noopener')
  expect(await popup.evaluate(() => window.opener !== null)).toBe(true)
  expect(await apart.evaluate(() => window.opener)).toBe(null)
  const windows = [page, popup, apart]
  world.as.expireAccessTokens()
  const answers = await Promise.all([...windows, ...windows].map(me))
  expect(answers).toEqual(Array(6).fill(200))
  expect(refreshesAt(world.as)).toHaveLength(1)
  // A sign-in in a popup is one for all.
  await popup.evaluate(() => window.auth.logout({ local: true }))
  await heard(apart, 'signed-out logout')
  await landIn(popup, world.url, () => startLogin(popup))
  await heard(apart, 'signed-in')
  expect(await me(apart)).toBe(200)
})

describe('a frame of the own origin, with a token manager of its own', () => {
  const openFrame = async () => {
    world.usePolicy({ page: { 'frame-ancestors': "'self'" } })
    const page = await openSignedIn(world)
    await page.evaluate(
      (url) =>
        new Promise((resolve) => {
          const frame = document.createElement('iframe')
          frame.onload = resolve
          frame.src = url
          document.body.append(frame)
        }),
      `${world.url}other`,
    )
    const frame = page.frames().find((each) => each.parentFrame()) as ReturnType<Page['mainFrame']>
    await frame.evaluate(() => window.auth.ready)
    const inFrame = () =>
      frame.evaluate(async (url) => (await fetch(url)).status, `${world.api.url}/me`)
    return { page, frame, inFrame }
  }

  test('has the session; silent logins are for the page around it (IN-23, SI-06)', async () => {
    const { page, frame, inFrame } = await openFrame()
    const session = () => window.auth.session()
    expect(await frame.evaluate(session)).toEqual(await page.evaluate(session))
    expect(await inFrame()).toBe(200)
    world.as.revokeRefreshTokens()
    world.as.expireAccessTokens()
    // The frame that the user is in comes first in the browser's list.
    await frame.click('h1')
    const attached = page.waitForEvent('frameattached')
    expect(await inFrame()).toBe(200)
    expect((await attached).parentFrame()).toBe(page.mainFrame())
    await frame.waitForFunction(() => window.events.some(({ type }) => type === 'renewed'))
    await page.evaluate(() => window.auth.logout({ local: true }))
    await frame.waitForFunction(() => window.events.some(({ type }) => type === 'signed-out'))
  })

  test('has no login(), which says so, and the one around it serves both (AR-18)', async () => {
    const { page, frame, inFrame } = await openFrame()
    await page.evaluate(() => window.auth.logout({ local: true }))
    world.as.clearRequests()
    const error = await frame.evaluate(() => window.auth.login().catch(({ code }) => code))
    expect(error).toBe('unsupported')
    expect(frame.url()).toBe(`${world.url}other`)
    expect(world.as.requests.filter(({ path }) => path === '/auth')).toEqual([])
    expect(await inFrame()).toBe(401)
    await landIn(page, world.url, () =>
      frame.evaluate(() => void (parent as Window & typeof globalThis).auth.login()),
    )
    expect(await me(page)).toBe(200)
    expect(requestsTo(world.api, '/me').at(-1)?.authorization).toBe('bearer')
  })
})
