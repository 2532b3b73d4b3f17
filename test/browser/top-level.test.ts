import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import {
  authorizationsAt,
  eventsIn,
  fetchIn,
  heard,
  landIn,
  openApp,
  openSignedIn,
  recordIn,
  sessionIn,
  startLogin,
  useWorld,
} from '../support/world.js'

// Its pages are real ones here, so that one of them would be seen.
const world = useWorld({ autoSignIn: false, server: { consentRemembered: true } })

const asAlice = { status: 200, body: { sub: 'alice' } }
const me = (page: Page) => fetchIn(page, `${world.api.url}/me`)
const noPrompt = { params: { prompt: 'none' } }

/** A page whose user is signed in here and at the server. */
const openAlice = async (): Promise<Page> => {
  world.as.setAutoSignIn('alice')
  const page = await openSignedIn(world)
  world.as.setAutoSignIn(undefined)
  world.as.clearRequests()
  return page
}

/** Every document that the tab shows from now on. */
const documentsIn = (page: Page): string[] => {
  const shown: string[] = []
  page.on('framenavigated', (frame) => {
    if (frame === page.mainFrame()) shown.push(frame.url())
  })
  return shown
}

describe('login() without a prompt, where hidden frames are no way', () => {
  test('signs in and comes back to the place; no page of the server is shown (SI-08)', async () => {
    const page = await openAlice()
    await page.evaluate(() => window.auth.logout({ local: true }))
    expect(await sessionIn(page)).toBe(undefined)
    await page.goto(`${world.url}other?q=1#/orders/7`)
    await page.evaluate(() => window.auth.ready)
    const shown = documentsIn(page)
    await landIn(page, world.url, () => startLogin(page, noPrompt))
    expect(page.url()).toBe(`${world.url}other?q=1#/orders/7`)
    expect(shown).toEqual([`${world.url}other?q=1#/orders/7`])
    expect(await sessionIn(page)).toMatchObject({ state: 'fresh', claims: { sub: 'alice' } })
    expect(await me(page)).toMatchObject(asAlice)
    expect(authorizationsAt(world.as)).toHaveLength(1)
    expect(new URLSearchParams(authorizationsAt(world.as)[0]?.query).get('prompt')).toBe('none')
  })

  test('comes back with login_required where the server knows nobody (SI-05)', async () => {
    const context = await world.newProfile()
    const other = await openApp(context, world.url)
    const page = await openApp(context, `${world.url}other#/orders/7`)
    const shown = documentsIn(page)
    await landIn(page, world.url, () => startLogin(page, noPrompt))
    expect(shown).toEqual([`${world.url}other#/orders/7`])
    await heard(page, 'problem login_required')
    expect(await eventsIn(page)).toEqual(['problem login_required'])
    expect(await sessionIn(page)).toBe(undefined)
    // The landing tab is told, and only once.
    expect(await eventsIn(other)).toEqual([])
    await page.reload()
    await page.evaluate(() => window.auth.ready)
    expect(await eventsIn(page)).toEqual([])
  })

  test.each([
    ['login_required', () => world.as.endSessions()],
    ['consent_required', () => world.as.forgetGrants()],
  ])('ends no session that is there: %s (SI-05)', async (code, lose) => {
    const page = await openAlice()
    const before = await recordIn(world, page)
    lose()
    await landIn(page, world.url, () => startLogin(page, noPrompt))
    await heard(page, `problem ${code}`)
    expect(await eventsIn(page)).toEqual([`problem ${code}`])
    expect(await sessionIn(page)).toMatchObject({ state: 'fresh', claims: { sub: 'alice' } })
    expect(await recordIn(world, page)).toEqual(before)
  })

  test('goes on with the session that is there where the server knows the user', async () => {
    const page = await openAlice()
    await landIn(page, world.url, () => startLogin(page, noPrompt))
    expect(await eventsIn(page)).toEqual([])
    expect(await sessionIn(page)).toMatchObject({ state: 'fresh', claims: { sub: 'alice' } })
    expect(await me(page)).toMatchObject(asAlice)
  })
})

describe('a hidden frame whose server breaks out of it', () => {
  test.each([
    ['with the user', () => openAlice(), []],
    [
      'without a user',
      async () => openApp(await world.newProfile(), world.url),
      ['login_required'],
    ],
  ])('leaves the tab in the app: %s', async (_title, open, problems) => {
    const page = await open()
    const leaving = page.evaluate(
      () =>
        new Promise<string>((resolve) => {
          document.body.append = (frame) => resolve((frame as HTMLIFrameElement).src)
          window.auth.checkSession().catch(() => {})
        }),
    )
    const url = await leaving
    await landIn(page, world.url, () => page.goto(url))
    expect(page.url()).toBe(world.url)
    for (const code of problems) await heard(page, `problem ${code}`)
  })
})
