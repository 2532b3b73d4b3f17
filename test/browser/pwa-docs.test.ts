import type { Page } from 'playwright-core'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'
import { bundleWorker } from '../support/bundled-worker.js'
import { parse, read } from '../support/docs.js'
import { fetchIn, openAndSignIn, requestsTo, useWorld } from '../support/world.js'

// What docs/pwa.md shows works as it stands there, but for the addresses.

const world = useWorld()

const withAddresses = (code: string): string =>
  code
    .replaceAll('https://login.example.com', world.as.issuer)
    .replaceAll('https://api.example.com', world.api.url)
    .replaceAll("'my-app'", `'${world.clientId}'`)
    // Nobody signs in there.
    .replaceAll('https://login.partner.example', 'http://localhost:9')
    .replaceAll('self.__WB_MANIFEST', "[{ url: '/index.html', revision: '1' }]")

const lines = read('docs/pwa.md').split('\n')

/** The code below each heading that runs in a page, or in the worker. */
const codeFor = (place: 'page' | 'worker') =>
  parse('docs/pwa.md')
    .blocks.filter((block) => block.place === place)
    .map(({ code, line }) => ({
      heading: lines.slice(0, line).findLast((each) => /^##+ /.test(each)) ?? '',
      code,
    }))

const workers = codeFor('worker')

const openWith = async (code: string): Promise<Page> => {
  const source = withAddresses(code)
  // With importScripts it runs as it is; with imports an app bundles it.
  const body = source.includes('importScripts') ? source : await bundleWorker(source)
  world.site.addFile('/sw.js', { body })
  world.site.addFile('/index.html', { body: world.pageSource, type: 'text/html' })
  return await openAndSignIn(world, await world.newProfile())
}

describe('the worker in docs/pwa.md', () => {
  test.each(workers)('below “$heading” signs in and attaches the token', async ({ code }) => {
    const page = await openWith(code)
    expect(await fetchIn(page, `${world.api.url}/notes`)).toMatchObject({ status: 200 })
    expect(requestsTo(world.api, '/notes')).toMatchObject([{ authorization: 'bearer' }])
  })

  test('below every heading that has one is among them', () => {
    expect(workers.length).toBeGreaterThanOrEqual(6)
  })
})

test('the page in docs/pwa.md tells a note that is kept from one that is saved', async () => {
  const [worker, pageCode] = [workers, codeFor('page')].map(
    (blocks) => blocks.find(({ heading }) => heading === '## Writes that are sent later')?.code,
  )
  const page = await openWith(worker ?? '')
  const { outputText } = ts.transpileModule(withAddresses(pageCode ?? ''), {
    compilerOptions: { target: ts.ScriptTarget.ES2022 },
  })
  const save = () =>
    page.evaluate(`(async () => { ${outputText}; return await saveNote('1', 'x') })()`)
  expect(await save()).toBe(200)
  await page.context().setOffline(true)
  expect(await save()).toBe('not sent yet')
  const isSent = ({ method, status }: { method: string; status?: number }) =>
    method === 'PUT' && status !== undefined
  world.api.clearRequests()
  await page.context().setOffline(false)
  await world.api.waitForRequest(isSent)
})
