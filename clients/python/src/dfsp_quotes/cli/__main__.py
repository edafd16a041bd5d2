from dfsp_quotes.cli import main

main()
