import type { BrowserContext, Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import {
  arriveAt,
  eventsIn,
  fetchIn,
  heard,
  landIn,
  openAndSignIn,
  openApp,
  sessionIn,
  signIn,
  soonGivenUp,
  startLogin,
  useWorld,
  workerStopper,
} from '../support/world.js'

const world = useWorld({ bfcache: true })

const open = async (path = ''): Promise<Page> => openApp(await world.newProfile(), world.url + path)

const codeExchanges = () =>
  world.as.requests.filter(({ grantType }) => grantType === 'authorization_code')

const authorizationRequests = () => world.as.requests.filter(({ path }) => path === '/auth')

const toCallback = (params: string) => `${world.url}tokenward/callback.html${params}`

/** Goes somewhere and lands in the app. */
const visit = (page: Page, url: string) => landIn(page, world.url, () => page.goto(url))

/** The callback URLs that this browser visits, as soon as it does. */
const callbackUrls = (context: BrowserContext): string[] => {
  const urls: string[] = []
  context.on('request', (request) => {
    if (request.url().startsWith(toCallback('?'))) urls.push(request.url())
  })
  return urls
}

/** Begins a sign-in that the server answers with a page, and gives the `state` it was sent. */
const beginSignIn = async (page: Page): Promise<string> => {
  world.as.clearRequests()
  world.as.setFault({ path: '/auth', kind: 'html', times: 1 })
  await startLogin(page)
  await page.waitForURL(`${world.as.issuer}/**`)
  const { query } = await world.as.waitForRequest(({ path }) => path === '/auth')
  return new URLSearchParams(query).get('state') ?? ''
}

const typePassword = async (page: Page) => {
  await page.fill('[name=login]', 'alice')
  await page.fill('[name=password]', 'demo')
  await page.click('button[name=submit]')
}

/** What `login` is refused with; the page stays. */
const refusalOf = (page: Page, input: object): Promise<string> =>
  page.evaluate((input) => window.auth.login(input).catch(({ code }) => code), input)

const expectWorking = async (page: Page) => {
  expect(await sessionIn(page)).toMatchObject({ claims: { sub: 'alice' }, state: 'fresh' })
  const { status, body } = await fetchIn(page, `${world.api.url}/me`)
  expect({ status, body }).toMatchObject({ status: 200, body: { sub: 'alice' } })
}

describe('signing in', () => {
  test('with password and consent comes back signed in; requests carry a token (CB-01)', async () => {
    world.as.setAutoSignIn(undefined)
    const page = await open()
    await startLogin(page)
    await typePassword(page)
    await page.waitForSelector('button[value=allow]')
    await landIn(page, world.url, () => page.click('button[value=allow]'))
    expect(page.url()).toBe(world.url)
    const { claims, scope } = (await sessionIn(page)) ?? {}
    expect(claims).toEqual({
      sub: 'alice',
      name: 'Alice Adams',
      preferred_username: 'alice',
    })
    expect(scope).toBe('openid profile offline_access')
    await expectWorking(page)
  })

  test('uses the code flow with PKCE, state and nonce, all new each time (AR-01, AR-02, AR-03, AR-04, AR-05)', async () => {
    const page = await open()
    await signIn(page)
    await signIn(page)
    const [first, second] = authorizationRequests().map(({ query }) => new URLSearchParams(query))
    expect(first?.get('response_type')).toBe('code')
    expect(first?.get('code_challenge_method')).toBe('S256')
    for (const name of ['state', 'nonce', 'code_challenge']) {
      expect(first?.get(name)).toMatch(/^[\w-]{43}$/)
      expect(first?.get(name)).not.toBe(second?.get(name))
    }
  })

  test('works as the first thing that a page of a new visitor does', async () => {
    const call = "tokenward.createTokenManager('/sw.js')"
    const startAtOnce = `${call}
      if (await auth.session()) document.title = 'signed in'
      else auth.login().catch(() => {})`
    world.site.addFile('/eager', { body: world.pageFor(startAtOnce), type: 'text/html' })
    const page = await (await world.newProfile()).newPage()
    await page.goto(`${world.url}eager`)
    await page.waitForFunction(() => document.title === 'signed in')
    expect(page.url()).toBe(`${world.url}eager`)
    expect(codeExchanges()).toHaveLength(1)
  })

  test('never shows the callback to the site’s server (CB-01)', async () => {
    const page = await open()
    await signIn(page)
    expect(world.site.requests.filter(({ path }) => path.includes('tokenward/'))).toEqual([])
  })

  test('passes parameters of the worker and of the page on', async () => {
    const params = "authorizationParams: { prompt: 'consent', audience: 'https://api.test' },"
    world.useWorker(params)
    const page = await open()
    await signIn(page, { login_hint: 'alice' })
    const query = new URLSearchParams(authorizationRequests()[0]?.query)
    expect(query.get('audience')).toBe('https://api.test')
    expect(query.get('login_hint')).toBe('alice')
  })

  test('refuses parameters from the page that could widen what is configured (AR-13)', async () => {
    const page = await open()
    for (const name of ['redirect_uri', 'scope', 'response_mode', 'audience', 'state']) {
      expect(await refusalOf(page, { params: { [name]: 'x' } }), name).toBe('invalid_input')
    }
    expect(authorizationRequests()).toEqual([])
  })

  test('once for two calls in one page (AR-18)', async () => {
    const page = await open()
    await landIn(page, world.url, () =>
      page.evaluate(() => {
        window.auth.login().catch(() => {})
        window.auth.login().catch(() => {})
      }),
    )
    expect(authorizationRequests()).toHaveLength(1)
  })
})

describe('the return URL', () => {
  test('keeps path, query and hash (CB-02)', async () => {
    const page = await open()
    const returnTo = '/other?x=1&y=%C3%A9#part'
    await landIn(page, world.url, () => startLogin(page, { returnTo }))
    expect(page.url()).toBe(world.site.origin + returnTo)
    await expectWorking(page)
  })

  test('is by default the page itself, with the fragment of a hash router (CB-02)', async () => {
    const page = await open('#/orders/5?tab=2')
    await signIn(page)
    expect(page.url()).toBe(`${world.url}#/orders/5?tab=2`)
  })

  test('gets no bare # at its end (CB-02)', async () => {
    const page = await open('other?x=1')
    await signIn(page)
    expect(await page.evaluate(() => location.href)).toBe(`${world.url}other?x=1`)
    const entries = await page.evaluate(() => navigation.entries().map(({ url }) => url))
    expect(entries.at(-1)).toBe(`${world.url}other?x=1`)
  })

  test('is refused where it is not a page of this app (AR-10)', async () => {
    const page = await open()
    const { host } = new URL(world.url)
    const foreign = [
      'https://evil.example/',
      '//evil.example/',
      '/\\evil.example/',
      '\t//evil.example/',
      'javascript:alert(1)',
      'data:text/html,hi',
      `blob:${world.url}x`,
      `https://${host}/`,
      `http://user@${host}/`,
      'http://',
      'tokenward/callback.html',
      'tokenward/login.html?ticket=x#y',
    ]
    for (const returnTo of foreign) {
      expect(await refusalOf(page, { returnTo }), returnTo).toBe('invalid_input')
    }
    expect(page.url()).toBe(world.url)
  })
})

describe('two tabs that sign in at once', () => {
  test('both arrive, as one user, and neither signs the other out', async () => {
    const context = await world.newProfile()
    const pages = [await openApp(context, world.url), await openApp(context, `${world.url}other`)]
    const [first, second] = pages as [Page, Page]
    // The second one begins and ends while the first one's code is being redeemed.
    world.as.setFault({ path: '/token', kind: 'delay', ms: 1_000, times: 1 })
    const landed = signIn(first)
    await world.as.waitForRequest(({ path }) => path === '/token')
    await signIn(second)
    await landed
    expect(pages.map((page) => page.url())).toEqual([world.url, `${world.url}other`])
    expect(codeExchanges()).toHaveLength(2)
    for (const page of pages) await expectWorking(page)

    world.as.expireAccessTokens()
    for (const page of pages) await expectWorking(page)
    expect(world.as.requests.filter(({ path }) => path === '/revoke')).toEqual([])
    const events = (await Promise.all(pages.map(eventsIn))).flat()
    expect(events).not.toContain('signed-out user_changed')
    expect(events.filter((event) => /signed-out|problem|login-required/.test(event))).toEqual([])
  })
})

describe('an error from the server', () => {
  test('arrives as an event in the tab that lands, and only there (CB-07)', async () => {
    world.as.setAutoSignIn(undefined)
    const context = await world.newProfile()
    const bystander = await openApp(context, `${world.url}other`)
    const page = await openApp(context, world.url)
    await startLogin(page)
    await typePassword(page)
    await page.waitForSelector('button[value=deny]')
    await landIn(page, world.url, () => page.click('button[value=deny]'))
    expect(page.url()).toBe(world.url)
    await heard(page, 'problem access_denied')
    expect(await page.textContent('h1')).toBe('test app')
    expect(await sessionIn(page)).toBeUndefined()
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 401 })
    expect(await eventsIn(bystander)).toEqual([])

    await page.reload()
    await page.evaluate(() => window.auth.ready)
    expect(await eventsIn(page)).toEqual([])
    world.as.setAutoSignIn('alice')
    await signIn(page)
    await expectWorking(page)
  })

  test('does not end a session that is there', async () => {
    const page = await openAndSignIn(world)
    const state = await beginSignIn(page)
    const iss = encodeURIComponent(world.as.issuer)
    await visit(page, toCallback(`?error=temporarily_unavailable&state=${state}&iss=${iss}`))
    await heard(page, 'problem temporarily_unavailable')
    await expectWorking(page)
  })
})

describe('a second arrival at the callback', () => {
  test('by its address ends in the app, with the session intact (CB-06)', async () => {
    const context = await world.newProfile()
    const urls = callbackUrls(context)
    const page = await openApp(context, world.url)
    await landIn(page, world.url, () => startLogin(page, { returnTo: '/other?x=1#y' }))
    const [url = ''] = urls
    expect(url).toContain('code=')
    await visit(page, url)
    expect(page.url()).toBe(`${world.url}other?x=1#y`)
    expect(await eventsIn(page)).toEqual([])
    await expectWorking(page)

    const secondTab = await context.newPage()
    await visit(secondTab, url)
    await expectWorking(secondTab)
    expect(codeExchanges()).toHaveLength(1)
  })

  test('while the first one is under way spends no code twice (CB-06)', async () => {
    const context = await world.newProfile()
    const urls = callbackUrls(context)
    const page = await openApp(context, world.url)
    world.as.setFault({ path: '/token', kind: 'delay', ms: 200, times: 1 })
    const landed = signIn(page)
    await world.as.waitForRequest(({ path }) => path === '/token')
    const secondTab = await context.newPage()
    await visit(secondTab, urls[0] ?? '')
    await landed
    expect(codeExchanges()).toHaveLength(1)
    await expectWorking(page)
    await expectWorking(secondTab)
  })

  test('is not what a reload of the landing page is (CB-06)', async () => {
    const page = await openAndSignIn(world)
    await page.reload()
    await page.evaluate(() => window.auth.ready)
    expect(page.url()).toBe(world.url)
    expect(await eventsIn(page)).toEqual([])
    await expectWorking(page)
    expect(codeExchanges()).toHaveLength(1)
  })

  test('is not what Back from the app is (CB-06)', async () => {
    const page = await openAndSignIn(world)
    // Restored as it was or loaded again, as the browser likes.
    await page.goBack({ waitUntil: 'commit' })
    await page.waitForFunction(() => window.auth !== undefined)
    await page.evaluate(() => window.auth.ready)
    expect(page.url()).toBe(world.url)
    await expectWorking(page)
    expect(codeExchanges()).toHaveLength(1)
  })

  test('says so where the session is over by now (CB-06)', async () => {
    const context = await world.newProfile()
    const urls = callbackUrls(context)
    const page = await openApp(context, world.url)
    await signIn(page)
    await page.evaluate(() => window.auth.logout({ local: true }))
    await visit(page, urls[0] ?? '')
    // Signing out has forgotten that it was ever asked for.
    await heard(page, 'problem unsolicited_callback')
    expect(await sessionIn(page)).toBeUndefined()
    expect(codeExchanges()).toHaveLength(1)
  })
})

describe('an answer that nobody asked for', () => {
  test('with an unknown state leaves the session alone (CB-07)', async () => {
    const context = await world.newProfile()
    const bystander = await openApp(context, `${world.url}other`)
    const page = await openAndSignIn(world, context)
    const before = await sessionIn(page)
    const heardBefore = await eventsIn(bystander)
    world.as.clearRequests()
    await visit(page, toCallback('?code=stolen&state=unknown'))
    expect(page.url()).toBe(world.url)
    await heard(page, 'problem unsolicited_callback')
    expect(await sessionIn(page)).toEqual(before)
    expect(await eventsIn(bystander)).toEqual(heardBefore)
    expect(world.as.requests).toEqual([])
    await expectWorking(page)
  })

  test('by POST is not read and never reaches the site (CB-04)', async () => {
    const page = await open()
    const state = await beginSignIn(page)
    world.as.clearRequests()
    await page.goto(`${world.api.url}/open`)
    await landIn(page, world.url, () =>
      page.evaluate(
        ([action, state]) => {
          const form = document.createElement('form')
          Object.assign(form, { action, method: 'post' })
          for (const [name, value] of Object.entries({ code: 'x', state })) {
            form.append(Object.assign(document.createElement('input'), { name, value }))
          }
          document.body.append(form)
          form.submit()
        },
        [toCallback(''), state] as const,
      ),
    )
    await heard(page, 'problem unsolicited_callback')
    expect(page.url()).toBe(world.url)
    expect(world.as.requests).toEqual([])
    expect(world.site.requests.filter(({ method }) => method === 'POST')).toEqual([])
  })

  test('at a path that only looks like the callback is none: nothing is exchanged (CB-05)', async () => {
    const page = await open()
    const state = await beginSignIn(page)
    world.as.clearRequests()
    await page.goto(world.url)
    const query = `?code=x&state=${state}&iss=${encodeURIComponent(world.as.issuer)}`
    const paths = [
      ...['/tokenward/%63allback.html', '/tokenward/callback.html/', '/tokenward//callback.html'],
      ...['/tokenward/Callback.html', '/Tokenward/callback.html', '/x/tokenward/callback.html'],
      ...['/tokenward/callback', '/callback.html', '/tokenward%2fcallback.html'],
    ]
    for (const path of paths) {
      await page.goto(world.site.origin + path + query)
      expect(new URL(page.url()).pathname, path).toBe(path)
    }
    // Not a visit of the callback either: what scripts, images and workers load.
    await page.goto(world.url)
    const refused = await page.evaluate(async (url) => {
      const { status } = await fetch(url)
      const opaque = await fetch(url, { mode: 'no-cors' })
      const image = new Image()
      const failed = new Promise((resolve) => {
        image.onerror = () => resolve('failed')
      })
      image.src = url
      return [status, opaque.status, await failed]
    }, toCallback(query))
    expect(refused).toEqual([403, 403, 'failed'])
    expect([...codeExchanges(), ...authorizationRequests()]).toEqual([])
    const asked = world.site.requests.filter(({ path }) => path === '/tokenward/callback.html')
    expect(asked).toEqual([])
    // The transaction is still there for the true answer.
    await visit(page, toCallback(query))
    expect(codeExchanges()).toHaveLength(1)
    await heard(page, 'problem invalid_grant')
  })

  test('in the fragment is not read, and the landing URL does not inherit it (CB-03)', async () => {
    const page = await open()
    const state = await beginSignIn(page)
    world.as.clearRequests()
    await page.addInitScript(() => Object.assign(window, { hrefAtFirst: location.href }))
    await visit(page, toCallback(`#code=secret&state=${state}`))
    await heard(page, 'problem unsolicited_callback')
    expect(await page.evaluate('hrefAtFirst')).toBe(`${world.url}#`)
    expect(page.url()).toBe(world.url)
    expect(world.as.requests).toEqual([])
  })

  test('or is malformed, doubled, contradictory or too long, is refused (CB-08, CB-09)', async () => {
    const page = await open()
    const iss = `iss=${encodeURIComponent(world.as.issuer)}`
    const cases = [
      `code=a&code=b&${iss}`,
      `code=a&error=access_denied&${iss}`,
      `code=&${iss}`,
      iss,
      `code=${'a'.repeat(4097)}&${iss}`,
      `code=a&access_token=b&${iss}`,
      `code=a&id_token=b&${iss}`,
      `code=a&${iss}&${iss}`,
      'code=a',
      'code=a&iss=https%3A%2F%2Fevil.example',
      'error=login_required&iss=https%3A%2F%2Fevil.example',
    ]
    for (const params of cases) {
      const state = await beginSignIn(page)
      await visit(page, toCallback(`?state=${state}&${params}`))
      expect(await eventsIn(page), params.slice(0, 60)).toEqual(['problem invalid_callback'])
      expect(page.url()).toBe(world.url)
    }
    const state = await beginSignIn(page)
    await visit(page, toCallback(`?state=${state}&state=${state}&code=a&${iss}`))
    expect(await eventsIn(page)).toEqual(['problem invalid_callback'])
    expect(codeExchanges()).toEqual([])
    await signIn(page)
    await expectWorking(page)
  })

  test('of any size leads to the app (CB-08)', async () => {
    const page = await open()
    await visit(page, toCallback(`?state=${'x'.repeat(100_000)}&code=y`))
    expect(await eventsIn(page)).toEqual(['problem unsolicited_callback'])
    await visit(page, toCallback(`?${'state=%00%ff&'.repeat(2_000)}`))
    expect(await eventsIn(page)).toEqual(['problem unsolicited_callback'])
  })
})

describe('a worker that is stopped while it redeems the code', () => {
  // Chromium may go on to the network's inert page then, or keep the page that was to be left.
  test('has the app told when it is opened next, once (CB-15)', async () => {
    const context = await world.newProfile()
    const urls = callbackUrls(context)
    const bystander = await openApp(context, `${world.url}other`)
    const { stop } = await workerStopper(bystander)
    const page = await openApp(context, world.url)
    world.as.setFault({ path: '/token', kind: 'hang', times: 1 })
    await startLogin(page, { returnTo: '/other?x=1' })
    await world.as.waitForRequest(({ path }) => path === '/token')
    await stop()
    await world.as.waitForRequest(({ path, status }) => path === '/token' && status === 0)
    await visit(page, world.url)
    await heard(page, 'problem login_interrupted')
    expect(await eventsIn(page)).toEqual(['problem login_interrupted'])
    expect(await eventsIn(bystander)).toEqual([])
    expect(await sessionIn(page)).toBeUndefined()
    await visit(page, world.url)
    expect(await eventsIn(page)).toEqual([])

    // The same answer again says so too, and its code is not sent again.
    await visit(page, urls[0] ?? '')
    expect(page.url()).toBe(`${world.url}other?x=1`)
    await heard(page, 'problem login_interrupted')
    expect(codeExchanges()).toHaveLength(1)
    await signIn(page)
    await expectWorking(page)
    expect(await eventsIn(page)).toEqual([])
  })

  test('lets a hidden frame run into its time limit, and the next one works (CB-15, SI-04)', async () => {
    world.useWorker(soonGivenUp(2))
    const page = await openAndSignIn(world)
    const bystander = await openApp(page.context(), `${world.url}other`)
    const { stop } = await workerStopper(bystander)
    world.as.clearRequests()
    world.as.setFault({ path: '/token', kind: 'hang', times: 1 })
    await page.evaluate(() => {
      window.auth.checkSession().catch(() => {})
    })
    await world.as.waitForRequest(({ path }) => path === '/token')
    await stop()
    await page.waitForFunction(() => document.querySelector('iframe') === null)
    await bystander.reload()
    await bystander.evaluate(() => window.auth.ready)
    expect(await eventsIn(bystander)).toEqual([])
    expect(codeExchanges()).toHaveLength(1)
    await expectWorking(page)
    const session = await bystander.evaluate(() => window.auth.checkSession())
    expect(session).toMatchObject({ state: 'fresh' })
  })
})

describe('an app that calls login() whenever nobody is signed in', () => {
  /** Serves it; it tells the site with what code `login()` is refused. */
  const serveEager = () => {
    const call = `tokenward.createTokenManager('/sw.js')
      auth.session().then((session) => {
        if (!session) auth.login().catch(({ code }) => fetch('/told/' + code))
      })`
    world.site.addFile('/eager', { body: world.pageFor(call), type: 'text/html' })
  }
  const told = () =>
    world.site.requests.filter(({ path }) => path.startsWith('/told/')).map(({ path }) => path)

  test('is stopped after three rounds, with login_loop; a click begins anew (ER-06)', async () => {
    serveEager()
    // The server says no at once, each time.
    world.useWorker("authorizationParams: { prompt: 'none' },")
    const page = await (await world.newProfile()).newPage()
    await page.goto(`${world.url}eager`)
    await world.site.waitForRequest(({ path }) => path === '/told/login_loop', 20_000)
    expect(authorizationRequests()).toHaveLength(3)
    await page.waitForURL(`${world.url}eager`)
    await heard(page, 'problem login_required')
    // What Playwright runs in the page counts as done by the user, as a click does.
    await signIn(page, { prompt: 'login' })
    expect(authorizationRequests()).toHaveLength(4)
    await expectWorking(page)
    expect(told()).toEqual(['/told/login_loop'])
  })
})

describe('login.html', () => {
  test('linked from another site, prefetched or prerendered, begins nothing (AR-08)', async () => {
    world.usePolicy({ page: { 'require-trusted-types-for': undefined } })
    const page = await open()
    const target = `${world.url}tokenward/login.html`
    const logout = `${world.url}tokenward/logout.html`
    await signIn(page)
    world.as.clearRequests()
    // Speculation rules of the app's own page: the browser may load what they name in advance.
    await page.evaluate(
      (urls) => {
        const rules = document.createElement('script')
        rules.type = 'speculationrules'
        const list = [{ source: 'list', urls, eagerness: 'immediate' }]
        rules.textContent = JSON.stringify({ prefetch: list, prerender: list })
        document.head.append(rules)
        for (const href of urls) {
          document.head.append(
            Object.assign(document.createElement('link'), { rel: 'prefetch', href }),
          )
        }
      },
      [target, `${target}?ticket=guessed`, logout, `${logout}?ticket=guessed`],
    )
    // Another site (127.0.0.1) links to it.
    const elsewhere = await page.context().newPage()
    await elsewhere.goto(`${world.api.url.replace('localhost', '127.0.0.1')}/open`)
    for (const url of [target, `${target}?ticket=guessed`, logout]) {
      await elsewhere.goto(`${world.api.url.replace('localhost', '127.0.0.1')}/open`)
      await landIn(elsewhere, world.url, () =>
        elsewhere.evaluate((href) => {
          const link = Object.assign(document.createElement('a'), { href })
          document.body.append(link)
          link.click()
        }, url),
      )
      expect(elsewhere.url()).toBe(world.url)
    }
    expect(world.as.requests).toEqual([])
    await expectWorking(page)
  })

  test('without a ticket leads to the app, not to the server (AR-08)', async () => {
    const page = await open()
    for (const query of ['', '?ticket=', '?ticket=guessed']) {
      await visit(page, `${world.url}tokenward/login.html${query}`)
      expect(page.url()).toBe(world.url)
    }
    expect(authorizationRequests()).toEqual([])
  })

  test('with a ticket that has been used leads to the app (AR-08)', async () => {
    const page = await open()
    const leaving = page.waitForRequest((request) => request.url().includes('login.html?ticket='))
    await signIn(page)
    await visit(page, (await leaving).url())
    expect(page.url()).toBe(world.url)
    expect(authorizationRequests()).toHaveLength(1)
    await expectWorking(page)
  })
})

describe('Back from the sign-in page', () => {
  test('ends login() with cancelled, and the button works again (AR-18)', {
    retry: 2,
  }, async () => {
    world.as.setAutoSignIn(undefined)
    const page = await open()
    await arriveAt(page, world.as.issuer, () =>
      page.evaluate(() => {
        Object.assign(window, { outcome: window.auth.login().catch(({ code }) => code) })
      }),
    )
    await page.goBack({ waitUntil: 'commit' })
    expect(await page.evaluate('outcome')).toBe('cancelled')
    expect(await sessionIn(page)).toBeUndefined()
    world.as.setAutoSignIn('alice')
    await signIn(page)
    await expectWorking(page)
  })
})

describe('the issuer', () => {
  test('may be given as metadata, and is not discovered then', async () => {
    const found = await fetch(`${world.as.issuer}/.well-known/openid-configuration`)
    const metadata = JSON.stringify(await found.json())
    world.as.clearRequests()
    world.useWorker(`issuer: ${metadata},`)
    const page = await openAndSignIn(world)
    await expectWorking(page)
    expect(world.as.requests.filter(({ path }) => path.includes('.well-known'))).toEqual([])
  })

  test('with a wrong trailing slash is named in the error', async () => {
    const wrong = `issuer: '${world.as.issuer}/',`
    world.useWorker(wrong)
    const page = await open()
    await landIn(page, world.url, () => startLogin(page))
    await heard(page, 'problem invalid_configuration')
    const message = await page.evaluate(() => {
      const [event] = window.events
      return event?.type === 'problem' ? event.error.message : ''
    })
    expect(message).toContain(`"${world.as.issuer}"`)
    expect(message).toContain(`"${world.as.issuer}/"`)
    expect(message).toContain('slash')
  })

  test('out of reach at login() lands in the app with metadata_unreachable', async () => {
    const page = await open()
    world.as.setFault({ path: '/.well-known', kind: 'drop-before' })
    await landIn(page, world.url, () => startLogin(page, { returnTo: '/other#x' }))
    expect(page.url()).toBe(`${world.url}other#x`)
    await heard(page, 'problem metadata_unreachable')
    world.as.setFault(undefined)
    await signIn(page)
    await expectWorking(page)
  })

  test('whose token endpoint is down lands in the app with an error, and works later', async () => {
    const page = await open()
    world.as.setFault({ path: '/token', kind: 'drop-before' })
    await landIn(page, world.url, () => startLogin(page))
    await heard(page, 'problem token_endpoint_unreachable')
    world.as.setFault(undefined)
    await signIn(page)
    await expectWorking(page)
  })
})

describe('a device whose clock is wrong', () => {
  const wrongClock = (hours: number) => `{
    const RealDate = Date
    const shift = ${hours * 3_600_000}
    self.Date = class extends RealDate {
      constructor(...given) {
        if (given.length > 0) super(...given)
        else super(RealDate.now() + shift)
      }
      static now() {
        return RealDate.now() + shift
      }
    }
  }`

  for (const [name, hours] of [
    ['an hour fast', 1],
    ['an hour slow', -1],
  ] as const) {
    test(`${name} signs in and refreshes all the same (RF-12, TK-06)`, async () => {
      world.useWorker('', wrongClock(hours))
      const page = await openAndSignIn(world)
      await expectWorking(page)
      world.as.expireAccessTokens()
      await expectWorking(page)
      expect(await eventsIn(page)).not.toContain('problem invalid_id_token')
      expect(
        world.as.requests.filter(({ grantType }) => grantType === 'refresh_token'),
      ).toHaveLength(1)
    })
  }

  test('two days off is told so (TK-06)', async () => {
    world.useWorker('', wrongClock(48))
    const page = await open()
    await landIn(page, world.url, () => startLogin(page))
    await heard(page, 'problem clock')
    expect(await sessionIn(page)).toBeUndefined()
  })
})
