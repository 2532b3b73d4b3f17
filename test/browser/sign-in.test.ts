import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { fetchIn, openApp, openSignedIn, signIn, startWorld, type World } from '../support/world.js'

let world: World
beforeAll(async () => {
  world = await startWorld()
})
afterEach(() => world.reset())
afterAll(() => world.close())

describe('signing in', () => {
  test('comes back signed in, and requests carry a token', async () => {
    const page = await openApp(await world.newProfile(), world.url)
    page.on('console', (m) => console.log('page', m.type(), m.text()))
    const session = await signIn(page)
    expect(session.claims['sub']).toBe('alice')
    expect(session.state).toBe('fresh')
    expect(page.url()).toBe(world.url)
    const { status, body } = await fetchIn(page, `${world.api.url}/me`)
    expect({ status, body }).toMatchObject({ status: 200, body: { sub: 'alice' } })
  })
})
