"""The first app of Dash's own tutorial. For tests only."""

import dash
from dash import Input, Output, dcc, html

app = dash.Dash(__name__)
server = app.server
app.layout = html.Div(
    [
        html.H1("My First App"),
        dcc.Dropdown(["one", "two", "three"], "one", id="choice"),
        html.Div(id="chosen"),
    ]
)


@app.callback(Output("chosen", "children"), Input("choice", "value"))
def show(choice: str) -> str:
    return f"You have chosen {choice}"
