import { describe, expect, test } from 'vitest'
import type { SessionRecord } from '../../sw/session/records.js'
import { createUnitWorld, visitOf } from '../support/worker-parts.js'

// Whoever signs out is signed out, whatever another tab or a hidden frame brings afterwards.

const app = 'https://app.example/'
const page = (name: string, query: string) => `${app}tokenward/${name}.html${query}`

const records = ['none', 'ended before', 'signed out before', 'active'] as const
const ways = ['login', 'silent', 'check'] as const
const stages = ['ticket', 'away', 'exchanging'] as const

const createWorld = async (state: (typeof records)[number]) => {
  const world = createUnitWorld()
  /** What happens while the server redeems the code. */
  let meanwhile: (() => Promise<unknown>) | undefined
  const fetch: typeof globalThis.fetch = async (input, init) => {
    const response = await world.server.fetch(input, init)
    if (!String(input).endsWith('/token')) return response
    const work = meanwhile
    meanwhile = undefined
    await work?.()
    return response
  }
  const worker = world.createWorker({ fetch })
  const { session, transactions, authPages, logout } = worker
  if (state !== 'none') await world.signIn()
  if (state === 'ended before') await session.end('ended')
  if (state === 'signed out before') await session.end('logout')
  const before = await session.readAgain()

  const visit = async (url: string | URL, name: 'login' | 'silent' | 'callback') => {
    const destination = name === 'login' ? 'document' : 'iframe'
    const response = await authPages(name, visitOf(url, { destination }))
    return response.headers.get('location') ?? ''
  }
  const kept: Promise<unknown>[] = []

  return {
    ...world,
    ...worker,
    before,
    signOut: async () => {
      await logout.begin({ local: true }, (work) => void kept.push(work))
      await Promise.all(kept)
    },
    begin: async (kind: (typeof ways)[number]) => {
      if (kind === 'login') {
        const { url } = await worker.login.begin({ returnTo: app })
        return url
      }
      const own = before?.status === 'active' ? before.session : undefined
      const started = { kind, returnTo: app, session: own, generation: before?.generation }
      return page('silent', `?ticket=${await transactions.begin(started)}`)
    },
    visit,
    whileExchanging: (work: () => Promise<unknown>) => {
      meanwhile = work
    },
  }
}

const pageOf = (kind: (typeof ways)[number]) => (kind === 'login' ? 'login' : 'silent')

describe.each(records)('signing out with a record that is %s', (state) => {
  describe.each(ways)('stops a %s', (kind) => {
    test.each(stages)('that is in the stage %s', async (stage) => {
      const world = await createWorld(state)
      const { begin, visit, signOut, session, server, events, accessToken } = world
      const url = await begin(kind)
      if (stage === 'ticket') await signOut()
      const away = await visit(url, pageOf(kind))
      if (stage === 'ticket') expect(away).not.toContain(server.issuer)
      else {
        if (stage === 'away') await signOut()
        else world.whileExchanging(signOut)
        await visit(server.authorize(away, 'alice'), 'callback')
      }
      const after = (await session.readAgain()) as SessionRecord
      expect(after).toMatchObject({ status: 'ended', reason: 'logout' })
      expect(await accessToken.get({ keepAlive: () => {}, canWait: true })).toMatchObject({
        kind: 'signed-out',
      })
      expect(events.filter(({ type }) => type === 'signed-in' || type === 'renewed')).toEqual([])
      // A code that came too late is not redeemed, and what was redeemed already is revoked.
      expect(server.tokenRequests()).toHaveLength(stage === 'exchanging' ? 1 : 0)
      if (stage === 'exchanging') expect(server.revoked).toContain(server.refreshToken())
    })
  })

  test('stops a sign-in that is finished after another one', async () => {
    const world = await createWorld(state)
    const { begin, visit, signOut, session, server } = world
    const first = await visit(await begin('login'), 'login')
    world.whileExchanging(async () => {
      await signOut()
      const second = await visit(await begin('login'), 'login')
      await visit(server.authorize(second, 'bob'), 'callback')
    })
    await visit(server.authorize(first, 'alice'), 'callback')
    expect(await session.readAgain()).toMatchObject({ status: 'active', subject: 'bob' })
    // Hers can share no grant with his.
    expect(server.revoked).toHaveLength(state === 'active' ? 2 : 1)
  })

  test('tells the pages only if somebody was signed in', async () => {
    const { signOut, events, store } = await createWorld(state)
    events.length = 0
    await signOut()
    expect(events.filter(({ type }) => type === 'signed-out')).toHaveLength(
      state === 'active' ? 1 : 0,
    )
    expect(await store.read()).toMatchObject({ status: 'ended', reason: 'logout' })
  })
})

test('a sign-in that is begun after the sign-out is not stopped by it', async () => {
  const { begin, visit, signOut, session, server } = await createWorld('none')
  await signOut()
  await visit(server.authorize(await visit(await begin('login'), 'login'), 'alice'), 'callback')
  expect(await session.readAgain()).toMatchObject({ status: 'active', subject: 'alice' })
})
