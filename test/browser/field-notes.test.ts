// The sample PWA of the demo, as it is: its site, its API, its authorization server.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { startServers } from '../../demo/servers.mjs'
import { launchOptions } from '../support/browser.mjs'
import { read, root } from '../support/docs.js'
import { limit } from '../support/machine.mjs'
import {
  authorizationsAt,
  dispatchSync,
  eventsIn,
  expireToken,
  refreshesAt,
  sessionIn,
  stopWorkers,
} from '../support/world.js'

let browser: Browser
let demo: Awaited<ReturnType<typeof startServers>>
let context: BrowserContext
let page: Page
const errors: string[] = []

beforeAll(async () => {
  browser = await chromium.launch(await launchOptions())
})
afterAll(() => browser.close())

beforeEach(async () => {
  const ports = { app: 0, authorizationServer: 0, api: 0 }
  demo = await startServers({ ports, authorizationServer: { autoSignIn: 'alice' } })
  context = await browser.newContext()
  context.setDefaultTimeout(limit(30_000))
  context.on('weberror', (error) => errors.push(error.error().stack ?? ''))
  // What a page of the app hears, for as long as the test runs.
  await context.addInitScript(() => {
    window.events = []
    addEventListener('load', () => window.auth?.onChange((event) => window.events.push(event)))
  })
  page = await context.newPage()
  await page.goto(`${demo.url}notes/`)
  await page.evaluate(() => window.auth.ready)
})
afterEach(async () => {
  await context.close()
  await demo.close()
  expect(errors.splice(0)).toEqual([])
})

/**
 * Closes the app and opens it again, when the browser has stopped its worker. Not by a reload, with
 * which the browser forgets that a test has told it to be offline.
 */
const restart = async () => {
  const closing = page
  page = await context.newPage()
  await closing.close()
  await stopWorkers(page)
  await page.goto(`${demo.url}notes/`)
}

/** The network is back, and the app hears of it. */
const goOnline = async () => {
  await context.setOffline(false)
  // With a worker that was stopped, too, Chromium may have forgotten that it was told to be
  // offline; then it has no event for the page.
  await page.evaluate(() => dispatchEvent(new Event('online')))
}

const stored = () => ({
  as: demo.authorizationServer,
  databaseName: `tokenward ${demo.authorizationServer.issuer} demo-notes`,
})

const signIn = async (user = 'alice') => {
  demo.authorizationServer.setAutoSignIn(user)
  await page.click('#login')
  await page.waitForSelector('#app:visible')
}

const names = () => page.locator('#notes .name').allTextContents()
const marks = () => page.locator('#notes .mark').allTextContents()
const state = () => page.textContent('#state')

/** Waits until the quiet line says so. */
const says = (text: string) => expect.poll(state).toBe(text)

const unsent = (count: number) =>
  count === 0 ? '' : `${count === 1 ? '1 change' : `${count} changes`} not sent yet.`
const offline = (count: number) => `Offline: changes are kept. ${unsent(count)}`.trim()

/** Each by hand, as a user does it; resolves when the list is back. */
const write = async (text: string) => {
  await page.click('#new')
  await page.fill('#text', text)
  await page.click('#editor button.main')
  await page.waitForSelector(`#notes .name:text-is("${text}")`)
}
const rewrite = async (before: string, text: string) => {
  await page.click(`#notes a:has-text("${before}")`)
  await page.fill('#text', text)
  await page.click('#editor button.main')
  await page.waitForSelector(`#notes .name:text-is("${text}")`)
}
const remove = async (text: string) => {
  await page.click(`#notes a:has-text("${text}")`)
  await page.click('#delete')
  await page.waitForSelector(`#notes a:has-text("${text}")`, { state: 'detached' })
}

const applied = () =>
  demo.api.appliedEdits.map(({ user, method, text }) =>
    [user, method, text].filter(Boolean).join(' '),
  )

/** The writes that have come to the API, preflights left out. */
const writes = () =>
  demo.api.requests.filter(({ method }) => ['POST', 'PUT', 'DELETE'].includes(method))

describe('the first visit', () => {
  test('is enough for a start without network; the first sign-in says that it needs one (OF-02, OF-08)', async () => {
    const devTools = await context.newCDPSession(page)
    expect(await devTools.send('Page.getAppManifest')).toMatchObject({
      url: `${demo.url}notes/manifest.webmanifest`,
      errors: [],
    })
    await context.setOffline(true)
    await restart()
    await page.click('#login')
    await expect.poll(() => page.textContent('#notice')).toBe('Signing in needs the network.')

    await context.setOffline(false)
    await signIn()
    expect(await page.textContent('#name')).toBe('Alice Adams')
    await write('North meadow')
    await says('')
    expect(applied()).toEqual(['alice POST North meadow'])
    await expect.poll(marks).toEqual([''])

    // What the rest of this file goes by: the API knows an edit again.
    const send = () =>
      page.evaluate(async () => {
        const headers = { 'content-type': 'application/json', 'idempotency-key': 'twice' }
        const body = JSON.stringify({ text: 'Twice' })
        const env = (globalThis as unknown as { env: { api: string } }).env
        const response = await fetch(`${env.api}notes`, { method: 'POST', headers, body })
        return [response.status, await response.json()]
      })
    const first = await send()
    expect(first[0]).toBe(201)
    expect(await send()).toEqual(first)
    expect(applied()).toEqual(['alice POST North meadow', 'alice POST Twice'])
  })
})

/** The states of the edits in the app's journal. */
const journal = () =>
  page.evaluate(
    () =>
      new Promise<string[]>((resolve) => {
        const opening = indexedDB.open('field-notes')
        opening.onsuccess = () => {
          const reading = opening.result.transaction('edits').objectStore('edits').getAll()
          reading.onsuccess = () => {
            opening.result.close()
            resolve(reading.result.map(({ state }) => state))
          }
        }
      }),
  )

/** What has happened, for a table of docs/pwa.md. */
const createRecord = () => {
  const rows: string[] = []
  let known = 0
  return {
    /** Adds what the app shows and what the servers have got since the row before. */
    note: async (what: string) => {
      const edits = demo.api.appliedEdits.length - known
      known += edits
      const refreshes = refreshesAt(demo.authorizationServer).length
      const got = [
        edits > 0 ? `${edits === 1 ? '1 edit' : `${edits} edits, in order`}` : '',
        refreshes > 0 ? `${refreshes} refresh` : '',
        authorizationsAt(demo.authorizationServer).length > 0 ? 'a sign-in' : '',
      ]
      demo.api.clearRequests()
      demo.authorizationServer.clearRequests()
      const count = await page.locator('#notes a').count()
      const notes = count === 1 ? '1 note' : `${count} notes`
      const shown = [await page.textContent('#name'), notes, await state()].filter(Boolean)
      const servers = got.filter(Boolean).join(', ') || 'nothing'
      rows.push(`| ${what} | ${shown.join(' · ')} | ${servers} |\n`)
    },
    table: () =>
      `| What happens | The app shows | The servers get |\n| --- | --- | --- |\n${rows.join('')}`,
  }
}

describe('an afternoon without network', () => {
  test('loses no edit, doubles none, and asks nobody to sign in (OF-01, OF-02, OF-07)', async () => {
    const record = createRecord()
    const edits: string[] = []
    const make = async (texts: string[]) => {
      for (const text of texts) {
        await write(text)
        edits.push(`alice POST ${text}`)
      }
    }
    const change = async (before: string, text: string) => {
      await rewrite(before, text)
      edits.push(`alice PUT ${text}`)
    }

    await signIn()
    await make(['North meadow'])
    await says('')
    const [morning] = writes()
    await record.note('Alice signs in and writes a note')

    await context.setOffline(true)
    await expireToken(stored(), page)
    await restart()
    await says(offline(0))
    await expect.poll(names).toEqual(['North meadow'])
    // The worker may be trying to renew just then.
    await expect.poll(() => sessionIn(page)).toMatchObject({ state: 'stale' })
    await record.note('The network goes, the access token expires, the app is closed and opened')

    await make(['Oak row', 'Beehives', 'Ditch', 'Gate', 'Scarecrow'])
    await change('North meadow', 'North meadow, wet')
    await says(offline(6))
    await record.note('She makes 6 edits')

    await stopWorkers(page)
    await make(['Barn', 'Well', 'Orchard'])
    await stopWorkers(page)
    await change('Ditch', 'Ditch, two herons')
    await remove('Scarecrow')
    edits.push('alice DELETE')
    await says(offline(11))
    await record.note('The browser stops the worker, twice; 5 edits')

    await restart()
    await says(offline(11))
    await expect.poll(async () => (await marks()).filter(Boolean).length).toBe(9)
    await make(['Fence', 'Hedge'])
    await stopWorkers(page)
    await change('Fence', 'Fence, post 14 is loose')
    await change('Fence, post 14 is loose', 'Fence, post 14 is repaired')
    await make(['Pond', 'Willow', 'Bridge'])
    await remove('Willow')
    edits.push('alice DELETE')
    await change('Pond', 'Pond, low')
    await says(offline(20))
    await record.note('The app is closed and opened, the worker stopped once more; 9 edits')
    // It is the worker that has them now.
    await expect.poll(journal).toEqual(Array.from({ length: 20 }, () => 'queued'))

    await goOnline()
    await says('')
    // In order, each once, all with the one new token.
    expect(applied()).toEqual(edits)
    const evening = writes()
    // One whose worker was stopped before it could say that it has it may come twice.
    expect(new Set(evening.map(({ headers }) => headers['idempotency-key'])).size).toBe(20)
    expect(evening.filter(({ status = 0 }) => status >= 300)).toEqual([])
    const [token, ...others] = new Set(evening.map(({ tokenHash }) => tokenHash))
    expect(others).toEqual([])
    expect(token).not.toBe(morning?.tokenHash)
    await expect.poll(marks).toEqual(Array.from({ length: 12 }, () => ''))
    expect(await names()).toEqual([
      'Pond, low',
      'Bridge',
      'Fence, post 14 is repaired',
      'Hedge',
      'Ditch, two herons',
      'Orchard',
      'Well',
      'Barn',
      'North meadow, wet',
      'Gate',
      'Beehives',
      'Oak row',
    ])
    expect(await sessionIn(page)).toMatchObject({ state: 'fresh' })
    expect(
      (await eventsIn(page)).filter((event) => /^(signed-|login-|problem)/.test(event)),
    ).toEqual([])
    await record.note('The network is back')

    // `UPDATE_DOCS=1` writes it.
    const text = read('docs/pwa.md')
    const [start, end] = ['<!-- afternoon -->\n', '<!-- /afternoon -->']
    const [before = '', rest = ''] = text.split(start)
    const [table = '', after = ''] = rest.split(end)
    if (process.env['UPDATE_DOCS']) {
      writeFileSync(join(root, 'docs/pwa.md'), before + start + record.table() + end + after)
    } else expect(table).toBe(record.table())
  })
})

describe('an app that nobody has open', () => {
  test('sends what waits, and has it when it is opened without network again (OF-07)', async () => {
    await signIn()
    await write('North meadow')
    await says('')
    await context.setOffline(true)
    await write('Oak row')
    await rewrite('North meadow', 'North meadow, wet')
    await expect.poll(journal).toEqual(['queued', 'queued'])
    await page.goto('about:blank')
    await context.setOffline(false)
    const scope = `${demo.url}notes/`
    await dispatchSync(page, scope, `${stored().databaseName} ${scope} notes`)
    await expect
      .poll(applied)
      .toEqual(['alice POST North meadow', 'alice POST Oak row', 'alice PUT North meadow, wet'])

    await context.setOffline(true)
    await restart()
    await says(offline(0))
    // Not in the list that was read this morning.
    await expect.poll(names).toEqual(['North meadow, wet', 'Oak row'])
    expect(await marks()).toEqual(['', ''])
  })
})

describe('another user on the same device', () => {
  test('sees nothing of the first one, and sends nothing of theirs (OF-07)', async () => {
    await signIn('alice')
    await write('Of Alice')
    await says('')
    await context.setOffline(true)
    await rewrite('Of Alice', 'Of Alice, offline')
    await write('Of Alice, too')
    await says(offline(2))
    // Her day ends at the server.
    await expireToken(stored(), page)
    demo.authorizationServer.revokeRefreshTokens()
    demo.authorizationServer.endSessions()
    await context.setOffline(false)
    await page.waitForSelector('#login:visible')

    await signIn('bob')
    expect(await page.textContent('#name')).toBe('Bob Brown')
    await write('Of Bob')
    await says('')
    expect(await names()).toEqual(['Of Bob'])
    expect(applied()).toEqual(['alice POST Of Alice', 'bob POST Of Bob'])

    // Signing out would lose what is not sent: it asks.
    await context.setOffline(true)
    await write('Of Bob, offline')
    await says(offline(1))
    await page.click('#logout')
    await page.click('#unsent button[value="stay"]')
    expect(await names()).toEqual(['Of Bob, offline', 'Of Bob'])
    await page.click('#logout')
    await page.click('#unsent button[value="leave"]')
    await page.waitForSelector('#login:visible')
    await context.setOffline(false)

    // Without network nobody could tell the server that he has gone.
    demo.authorizationServer.endSessions()
    await signIn('alice')
    await says('')
    await expect.poll(names).toEqual(['Of Alice, too', 'Of Alice, offline'])
    expect(applied()).toEqual([
      'alice POST Of Alice',
      'bob POST Of Bob',
      'alice PUT Of Alice, offline',
      'alice POST Of Alice, too',
    ])
  })
})

/** Puts a new version of the app on the site: another title. */
const deploy = async () => {
  const get = async (path: string) => (await fetch(new URL(path, demo.url))).text()
  const shell = await get('/notes/index.html')
  const worker = await get('/notes/sw.js')
  const revision = /url: ?"\/notes\/index.html", revision: ?"(\w+)"/.exec(worker)?.[1] ?? 'none'
  expect(worker).toContain(revision)
  demo.site.addFile('/notes/index.html', {
    body: shell.replace('<h1>Field notes</h1>', '<h1>Field notes 2</h1>'),
  })
  demo.site.addFile('/notes/sw.js', { body: worker.replaceAll(revision, 'new') })
}

describe('a new version of the app', () => {
  test('waits until it is wanted, and loses no edit that waits, nor what is being written', async () => {
    await signIn()
    await write('Before')
    await says('')
    await expireToken(stored(), page)
    await demo.authorizationServer.stop()
    await write('While no token is to be had')
    await rewrite('Before', 'Before, changed')
    await says(offline(2))
    await page.click('#new')
    await page.fill('#text', 'Half a sen')

    await deploy()
    await page.evaluate(async () => (await navigator.serviceWorker.ready).update())
    await page.waitForSelector('#update:visible')
    expect(await page.textContent('h1')).toBe('Field notes')
    expect(await page.inputValue('#text')).toBe('Half a sen')

    await page.click('#use-update')
    await page.waitForSelector('h1:text-is("Field notes 2")')
    await says(offline(2))
    expect(await page.inputValue('#text')).toBe('Half a sen')

    await demo.authorizationServer.start()
    await goOnline()
    await says('')
    expect(applied()).toEqual([
      'alice POST Before',
      'alice POST While no token is to be had',
      'alice PUT Before, changed',
    ])
  })
})
